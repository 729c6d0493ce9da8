#!/usr/bin/env bash
# Builds the images where there is no container engine and no registry of images: every line of the Dockerfile is
# run, by buildah in a chroot, on bases made here from Debian's packages and this machine's Rust. They stand in for
# the published bases of the same names and weigh about the same.
#
#   deploy/try_images.sh [TARGET...]        default: coordinator worker-cpu; as root; in $TMPDIR or /tmp
#   HARDY_TRY_BUILT=target/release deploy/try_images.sh
#
# Needs buildah and debootstrap (Debian's packages). Prints what each image weighs and what it says. The first form
# compiles everything anew and fetches libtorch, about an hour on two cores. The second takes the programs from the
# folder it names and libtorch from .deps/site; all other lines are run, and it says which are not.
set -euo pipefail
cd "$(dirname "$0")/.."

ROOM=${HARDY_TRY_IMAGES:-${TMPDIR:-/tmp}/hardy-try-images}
BUILT=${HARDY_TRY_BUILT:-}
base() { sed -n "s#^FROM \([^ ]*$1[^ ]*\) AS .*#\1#p" deploy/Dockerfile | head -1; }
DEBIAN=$(base debian:)
RUST=$(base rust:)
DISTROLESS=$(base distroless/)
SUITE=$(sed 's/.*:\([a-z]*\).*/\1/' <<<"$DEBIAN")
# What the published image is made of.
DISTROLESS_PACKAGES="base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata"
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

say() { printf 'try_images: %s\n' "$*"; }
die() { say "$1"; exit "${2:-1}"; }

for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null || { say "$tool is missing"; exit 3; }
done
[ "$(id -u)" -eq 0 ] || { say "needs root"; exit 3; }
mkdir -p "$ROOM"/overlay/{below,above,work,both}
# Layers of gigabytes: copying each of them whole is the last resort.
DRIVER=vfs
if (cd "$ROOM/overlay" && mount -t overlay overlay -o lowerdir=below,upperdir=above,workdir=work both) 2>/dev/null; then
  umount "$ROOM/overlay/both"
  DRIVER=overlay
fi
printf '[storage]\ndriver = "%s"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' "$DRIVER" "$ROOM" "$ROOM" > "$ROOM/storage.conf"
export CONTAINERS_STORAGE_CONF=$ROOM/storage.conf BUILDAH_ISOLATION=chroot TMPDIR=$ROOM
trap 'buildah rm --all >/dev/null 2>&1 || true' EXIT

is_here() { buildah inspect --type image "$1" >/dev/null 2>&1; }

import() { # import FOLDER NAME [buildah config arguments]: makes an image of a folder
  local container folder=$1 name=$2
  shift 2
  container=$(buildah from scratch)
  buildah add -q "$container" "$folder" / >/dev/null
  [ $# -eq 0 ] || buildah config "$@" "$container"
  buildah commit -q --format docker "$container" "$name" >/dev/null
  buildah rm "$container" >/dev/null
}

# Where this machine's own apt finds the suite, and how; debootstrap knows a mirror of its own otherwise.
mirror() { apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 2>/dev/null | awk -v suite="$SUITE" '$2 == suite { print $1; exit }'; }

if ! is_here "$DEBIAN"; then
  say "making $DEBIAN"
  rm -rf "$ROOM/debian"
  # shellcheck disable=SC2046
  debootstrap --variant=minbase "$SUITE" "$ROOM/debian" $(mirror) >"$ROOM/debootstrap.log" ||
    { tail -5 "$ROOM/debootstrap.log"; exit 1; }
  apt-config dump | grep -E '^Acquire::(Check-|https?::|ftp::)' > "$ROOM/debian/etc/apt/apt.conf.d/99machine" || true
  # As the published slim image: without lists, documents, manuals, translations. Devices come with the chroot.
  rm -rf "$ROOM"/debian/var/{lib/apt/lists,cache/apt}/* "$ROOM"/debian/usr/share/{doc,man,locale,info}/* "$ROOM"/debian/dev/*
  import "$ROOM/debian" "$DEBIAN"
fi

if ! is_here "$DISTROLESS"; then
  say "making $DISTROLESS"
  rm -rf "$ROOM/distroless" "$ROOM/packages"
  mkdir -p "$ROOM/distroless/etc/ssl/certs" "$ROOM/distroless/tmp" "$ROOM/packages"
  chmod 1777 "$ROOM/distroless/tmp" "$ROOM/packages"
  # Of the suite of the image, whatever this machine runs.
  container=$(buildah from "$DEBIAN")
  buildah run --network host --volume "$ROOM/packages:/packages" "$container" -- \
    sh -c "apt-get update -qq && cd /packages && apt-get download -qq $DISTROLESS_PACKAGES"
  buildah rm "$container" >/dev/null
  for package in "$ROOM"/packages/*.deb; do dpkg -x "$package" "$ROOM/distroless"; done
  cat "$ROOM"/distroless/usr/share/ca-certificates/mozilla/*.crt > "$ROOM/distroless$CERTIFICATES"
  rm -rf "$ROOM"/distroless/usr/share/{doc,man,locale}/*
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' \
    > "$ROOM/distroless/etc/passwd"
  import "$ROOM/distroless" "$DISTROLESS" --user 65532 \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env SSL_CERT_FILE=$CERTIFICATES
fi

if ! is_here "$RUST"; then
  say "making $RUST"
  container=$(buildah from "$DEBIAN")
  buildah run --network host "$container" -- sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ make ca-certificates >/dev/null && rm -rf /var/lib/apt/lists/*'
  # Authorities that only this machine knows, for cargo and pip.
  buildah add -q "$container" "$CERTIFICATES" "$CERTIFICATES" >/dev/null
  if [ -z "$BUILT" ]; then
    sysroot=$(rustc --print sysroot)
    [ -x "$sysroot/bin/cargo" ] && [ "$sysroot" != /usr ] || die "needs a Rust of rustup's, in a folder of its own" 3
    buildah add -q "$container" "$sysroot" /usr/local/rust >/dev/null
  fi
  buildah config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah commit -q --format docker "$container" "$RUST" >/dev/null
  buildah rm "$container" >/dev/null
fi

# Stages whose lines are left out when their outcome is given.
GIVEN_STAGES="client libtorch compute"
dockerfile=deploy/Dockerfile
arguments=()
if [ -n "$BUILT" ]; then
  rm -rf "$ROOM/built"
  mkdir -p "$ROOM"/built/{client/out,compute/out,libtorch/opt/hardy}
  strip -o "$ROOM/built/client/out/hardy" "$BUILT/hardy"
  strip -o "$ROOM/built/compute/out/hardy-compute" "$BUILT/hardy-compute"
  cp -al .deps/site/. "$ROOM/built/libtorch/opt/hardy/site" 2>/dev/null || cp -a .deps/site/. "$ROOM/built/libtorch/opt/hardy/site"
  awk -v given="$GIVEN_STAGES" '
    BEGIN { split(given, names); for (i in names) is_given[names[i]] = 1 }
    /^FROM / { left_out = $4 in is_given; print; if (left_out) print "COPY --from=built " $4 " /"; next }
    left_out && /^COPY --from/ { next }
    left_out && /^RUN / { print "try_images: not run: line " FNR ", " $0 > "/dev/stderr" }
    !left_out' deploy/Dockerfile > "$ROOM/Dockerfile"
  dockerfile=$ROOM/Dockerfile
  arguments=(--build-context "built=$ROOM/built")
fi

# tini is no first process here. Programs that were built elsewhere look for libtorch elsewhere.
run() { buildah run --env TINI_SUBREAPER=1 ${BUILT:+--env LD_LIBRARY_PATH=/opt/hardy/site/torch/lib} "$container" -- "$@"; }
needs_libtorch() { readelf -d "$BUILT/hardy" | grep -q 'NEEDED.*libtorch'; }

[ $# -gt 0 ] || set -- coordinator worker-cpu
for target in "$@"; do
  say "building $target"
  buildah build --format docker --network host --layers --pull-never --target "$target" \
    ${arguments[@]+"${arguments[@]}"} -f "$dockerfile" -t "hardy-$target" .
  container=$(buildah from --pull-never "hardy-$target")
  root=$(buildah mount "$container")
  weight=$(du -sm --apparent-size "$root" | cut -f1)
  say "hardy-$target weighs $weight MB"
  [ "$target" != coordinator ] || [ "$weight" -lt 100 ] || die "the coordinator's image must weigh less than 100 MB"
  user=$(buildah inspect --type image --format '{{.OCIv1.Config.User}}' "hardy-$target")
  [ "$user" = 65532:65532 ] || die "hardy-$target runs as '$user'"
  case $target in
    coordinator)
      [ ! -e "$root/bin/sh" ] || die "the coordinator's image has a shell"
      run /usr/bin/tini --version ;;
    worker-*)
      run sh -c 'test "$(id -u)" = 65532'
      run /usr/bin/hardy-compute device ;;
  esac
  if [ "$target" = coordinator ] && [ -n "$BUILT" ] && needs_libtorch; then
    say "not run: hardy in the coordinator's image, for $BUILT/hardy is linked with libtorch (make build ends with one that is not)"
  else
    run /usr/bin/tini -- /usr/bin/hardy --version
    run /usr/bin/tini -- /usr/bin/hardy submit --help >/dev/null
  fi
  buildah umount "$container" >/dev/null
  buildah rm "$container" >/dev/null
done
