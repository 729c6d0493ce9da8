#!/usr/bin/env bash
# Builds the images where there is no container engine and no registry: every line of the Dockerfile is run, by
# buildah in a chroot, on bases made here from Debian's packages and this machine's Rust. They stand in for the
# published bases of the same names and weigh about the same.
#
#   deploy/try_images.sh [TARGET...]        default: coordinator worker-cpu; as root; in $TMPDIR or /tmp
#
# Needs buildah and debootstrap (Debian's packages). Prints what each image weighs and what it says.
set -euo pipefail
cd "$(dirname "$0")/.."

ROOM=${HARDY_TRY_IMAGES:-${TMPDIR:-/tmp}/hardy-try-images}
DEBIAN=docker.io/library/debian:bookworm-slim
RUST=docker.io/library/$(sed -n 's/^FROM \(rust:[^ ]*\) .*/\1/p' deploy/Dockerfile)
DISTROLESS=gcr.io/distroless/cc-debian12:nonroot
# What the published image is made of.
DISTROLESS_PACKAGES="base-files ca-certificates libc6 libgcc-s1 libgomp1 libssl3 libstdc++6 netbase tzdata"
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

for tool in buildah debootstrap rustc; do
  command -v "$tool" >/dev/null || { echo "try_images: $tool is missing"; exit 3; }
done
mkdir -p "$ROOM"
printf '[storage]\ndriver = "vfs"\nrunroot = "%s/run"\ngraphroot = "%s/store"\n' "$ROOM" "$ROOM" > "$ROOM/storage.conf"
export CONTAINERS_STORAGE_CONF=$ROOM/storage.conf BUILDAH_ISOLATION=chroot TMPDIR=$ROOM

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

if ! is_here $DEBIAN; then
  rm -rf "$ROOM/debian"
  debootstrap --variant=minbase bookworm "$ROOM/debian" >"$ROOM/debootstrap.log"
  # As the published slim image: without lists, documents, manuals, translations.
  rm -rf "$ROOM"/debian/var/{lib/apt/lists,cache/apt}/* "$ROOM"/debian/usr/share/{doc,man,locale,info}/*
  import "$ROOM/debian" $DEBIAN
fi

if ! is_here $DISTROLESS; then
  rm -rf "$ROOM/distroless" "$ROOM/packages"
  mkdir -p "$ROOM/distroless/tmp" "$ROOM/packages"
  # shellcheck disable=SC2086
  (cd "$ROOM/packages" && apt-get download -qq $DISTROLESS_PACKAGES)
  for package in "$ROOM"/packages/*.deb; do dpkg -x "$package" "$ROOM/distroless"; done
  mkdir -p "$ROOM/distroless/etc/ssl/certs"
  cat "$ROOM"/distroless/usr/share/ca-certificates/mozilla/*.crt > "$ROOM/distroless$CERTIFICATES"
  rm -rf "$ROOM"/distroless/usr/share/{doc,man,locale}/*
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' \
    > "$ROOM/distroless/etc/passwd"
  import "$ROOM/distroless" $DISTROLESS --user 65532
fi

if ! is_here "$RUST"; then
  container=$(buildah from $DEBIAN)
  buildah run --network host "$container" -- sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends g++ ca-certificates >/dev/null'
  buildah add -q "$container" "$(rustc --print sysroot)" /usr/local/rust >/dev/null
  buildah config --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  buildah commit -q --format docker "$container" "$RUST" >/dev/null
  buildah rm "$container" >/dev/null
fi

[ $# -gt 0 ] || set -- coordinator worker-cpu
for target in "$@"; do
  buildah build --format docker --network host --layers --pull-never --target "$target" \
    --volume "$CERTIFICATES:$CERTIFICATES:ro" -f deploy/Dockerfile -t "hardy-$target" .
  container=$(buildah from "hardy-$target")
  root=$(buildah mount "$container")
  echo "hardy-$target weighs $(du -sm --apparent-size "$root" | cut -f1) MB"
  buildah run "$container" -- /usr/bin/tini -- /usr/bin/hardy --version
  buildah run "$container" -- /usr/bin/tini -- /usr/bin/hardy submit --help >/dev/null
  case $target in worker-*)
    buildah run "$container" -- /usr/bin/hardy-compute device
    buildah run "$container" -- sh -c 'test "$(id -u)" = 65532' ;;
  esac
  buildah umount "$container" >/dev/null
  buildah rm "$container" >/dev/null
done
