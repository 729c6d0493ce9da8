//! A TCP proxy that makes trouble, for S3 and for AMQP: it stands between a client and a real server, and
//! how it behaves can be changed at any time.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

/// How the proxy treats connections, new ones and those that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Pass,
    /// Resets every connection.
    Refuse,
    /// Resets a connection after so many more bytes of the server's.
    Cut(usize),
    /// Answers HTTP requests on new connections with this status and forwards nothing; resets open ones.
    Answer(u16),
    /// Holds back each piece that the server sends for this long.
    Delay(Duration),
    /// A partition: nothing passes, no connection ends, and one that met this mode stays dead.
    Silent,
}

/// A running proxy; dropped, it ends with all its connections.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: watch::Receiver<usize>,
    thread: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Proxy {
    /// A proxy on a free port before `server`, on a thread of its own.
    pub fn start(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("its port");
        let (mode, modes) = watch::channel(Mode::Pass);
        let (count, accepted) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = accept(listener, server, modes, count) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, mode, accepted, thread: Some((stop, thread)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as the endpoint of an S3 server.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, behaves so.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections have been made to it.
    pub fn accepted(&self) -> usize {
        *self.accepted.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, modes: watch::Receiver<Mode>, count: watch::Sender<usize>) {
    while let Ok((client, _)) = listener.accept().await {
        count.send_modify(|n| *n += 1);
        tokio::spawn(serve(client, server, modes.clone()));
    }
}

async fn serve(mut client: TcpStream, server: SocketAddr, mut modes: watch::Receiver<Mode>) {
    // Dropped, a stream of this kind sends a reset.
    let _ = client.set_zero_linger();
    let mode = *modes.borrow_and_update();
    match mode {
        Mode::Refuse => return,
        Mode::Silent => return std::future::pending().await,
        Mode::Answer(status) => return answer(client, status).await,
        Mode::Pass | Mode::Cut(_) | Mode::Delay(_) => {}
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (server.set_nodelay(true), client.set_nodelay(true));
    let current = Mutex::new(mode);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let silent = tokio::select! {
        biased;
        silent = broken(&mut modes, &current) => silent,
        _ = tokio::io::copy(&mut from_client, &mut to_server) => false,
        _ = down(&mut from_server, &mut to_client, &current) => false,
    };
    if silent {
        std::future::pending().await
    }
}

/// Follows the mode until it is one that no open connection survives; says whether it falls silent.
async fn broken(modes: &mut watch::Receiver<Mode>, current: &Mutex<Mode>) -> bool {
    while modes.changed().await.is_ok() {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Refuse | Mode::Answer(_) => return false,
            Mode::Silent => return true,
            Mode::Pass | Mode::Cut(_) | Mode::Delay(_) => *current.lock().unwrap() = mode,
        }
    }
    false
}

/// Forwards what the server sends, as the mode has it.
async fn down(server: &mut ReadHalf<'_>, client: &mut WriteHalf<'_>, current: &Mutex<Mode>) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let mut n = server.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        let mode = *current.lock().unwrap();
        match mode {
            Mode::Delay(time) => sleep(time).await,
            Mode::Cut(left) => {
                n = n.min(left);
                *current.lock().unwrap() = Mode::Cut(left - n);
            }
            _ => {}
        }
        client.write_all(&bytes[..n]).await?;
        if *current.lock().unwrap() == Mode::Cut(0) {
            // Without a pause the reset overtakes what was just written.
            sleep(Duration::from_millis(20)).await;
            return Ok(());
        }
    }
}

/// Answers when the head of a request has come, and then reads on for a while: a reset because of
/// unread bytes would overtake the answer.
async fn answer(mut client: TcpStream, status: u16) {
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        match client.read_buf(&mut head).await {
            Ok(n) if n > 0 => {}
            _ => return,
        }
    }
    let text = format!("HTTP/1.1 {status} Trouble\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = client.write_all(text.as_bytes()).await;
    let mut rest = vec![0; 64 << 10];
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        while matches!(client.read(&mut rest).await, Ok(n) if n > 0) {}
    })
    .await;
}
