"""Empty tasks through Celery, as benches/cluster.rs measures them through Hardy.

Quorum queues, persistent messages, late acknowledgement, prefetch 1, one consumer, a result for each task.

usage: celery_tasks.py BROKER_URL TASKS    (starts its own worker; prints tasks per second)
"""

import subprocess
import sys
import time

from celery import Celery
from kombu import Queue

app = Celery("peer", backend="rpc://")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_queue="celery-peer",
    task_queues=[Queue("celery-peer", queue_arguments={"x-queue-type": "quorum"})],
    task_default_delivery_mode="persistent",
    broker_transport_options={"confirm_publish": True},
    worker_detect_quorum_queues=True,
    result_persistent=True,
    broker_connection_retry_on_startup=True,
    task_send_sent_event=False,
    worker_send_task_events=False,
)


@app.task(name="nothing")
def nothing():
    """Does nothing; its result is None."""


def main():
    url, count = sys.argv[1], int(sys.argv[2])
    app.conf.broker_url = url
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "-b", url, "worker"]
    command += ["--concurrency", "1", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]
    worker = subprocess.Popen(command, stdout=sys.stderr)
    try:
        nothing.delay().get(timeout=60)
        began = time.monotonic()
        results = [nothing.delay() for _ in range(count)]
        published = time.monotonic()
        for result in results:
            result.get(timeout=600)
        ended = time.monotonic()
    finally:
        worker.terminate()
        worker.wait()
    print(f"celery: {count / (ended - began):.1f} tasks/s with publishing, {published - began:.2f} s of it publishing")


if __name__ == "__main__":
    main()
