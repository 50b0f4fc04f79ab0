#!/usr/bin/env bash
# Builds the static landfall-host of one machine and prints where it is: scripts/build-host.sh [x86_64|aarch64] [PROFILE]
# PROFILE: host (default; small, for a release) or host-quick. What a foreign machine's build needs is installed once (Debian: a cross
# linker, qemu to run it; the standard library of Rust from Debian's rustc-web, below ~/.cache/landfall). It says what is missing where it can't.
# A release's landfall embeds both: LANDFALL_HOST_X86_64=$(scripts/build-host.sh x86_64) LANDFALL_HOST_AARCH64=$(…aarch64) cargo build --release
set -euo pipefail
cd "$(dirname "$0")/.."
say() { echo "build-host: $*" >&2; }
die() { say "$@"; exit 1; }

own=$(uname -m)
machine=${1:-$own}
profile=${2:-host}
case $machine in
  x86_64 | aarch64) ;;
  *) die "$machine: landfall-host is built for x86_64 and aarch64" ;;
esac
target=$machine-unknown-linux-gnu
folder=${CARGO_TARGET_DIR:-target}/landfall-host
cache=${XDG_CACHE_HOME:-$HOME/.cache}/landfall
flags='-Ctarget-feature=+crt-static'

# Fetches packages of Debian into a folder, and unpacks them into another.
unpack() {
  local into=$1 debs=$2 deb
  shift 2
  mkdir -p "$debs"
  # apt gives up root for a download, and says so where the folder is root's.
  (cd "$debs" && apt-get -q -o APT::Sandbox::User=root download "$@" >&2) || return
  for deb in "$debs"/*.deb; do
    dpkg-deb -x "$deb" "$into" || return
    rm -f "$deb"
  done
}

# A Rust whose standard library knows the foreign machine; prints its folder. It conflicts with rustup's, so it is unpacked and not installed.
foreign_rust() {
  local rust=$cache/rust-$target work arch packages
  [ -x "$rust/usr/bin/rustc" ] && { echo "$rust"; return; }
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    die "no standard library of Rust for $target: rustup target add $target (or run this on Debian 12)"
  fi
  case $machine in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
  say "unpacking Debian's rustc-web with the standard library for $arch (once; 130 MB to fetch, 560 MB unpacked below $cache)"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/rust-XXXXXX")
  # shellcheck disable=SC2064 # this folder
  trap "rm -rf '$work'" EXIT
  apt-cache show rustc-web >/dev/null 2>&1 || apt-get update -q >&2 || :
  apt-cache show rustc-web >/dev/null 2>&1 || die "no package rustc-web in apt's lists (Debian 12 has it in bookworm-security)"
  packages=$(apt-cache depends --recurse --important rustc-web | grep -E '^(rustc-web|libstd-rust-web[a-z0-9.-]*|libllvm[0-9]+)$' | sort -u)
  # shellcheck disable=SC2086 # a list of words
  unpack "$work/rust" "$work/debs" $packages || die "could not fetch: ${packages//$'\n'/ }"
  mkdir -p "$work/lists/partial"
  local foreign=(-o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o "Dir::State::Lists=$work/lists")
  foreign+=(-o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
  apt-get "${foreign[@]}" -q update >&2 || :
  (
    mkdir "$work/foreign" && cd "$work/foreign" && apt-get "${foreign[@]}" -q download libstd-rust-web-dev >&2 &&
      dpkg-deb -x ./*.deb "$work/rust"
  ) || die "could not fetch libstd-rust-web-dev for $arch"
  rm -rf "$work/rust/usr/share" "$work/rust/usr/bin/rustdoc"
  [ -e "$rust" ] || mv "$work/rust" "$rust"
  rm -rf "$work"
  trap - EXIT
  echo "$rust"
}

# Linker and C library of the foreign machine, and what runs its programs here.
install_cross() {
  local missing=()
  command -v "$machine-linux-gnu-gcc" >/dev/null || missing+=("gcc-${machine/_/-}-linux-gnu")
  case $machine in aarch64) arch=arm64 ;; *) arch=amd64 ;; esac
  [ -e "/usr/$machine-linux-gnu/lib/libc.a" ] || missing+=("libc6-dev-$arch-cross")
  command -v "qemu-$machine-static" >/dev/null || missing+=(qemu-user-static)
  [ ${#missing[@]} = 0 ] && return
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    die "missing for $machine: ${missing[*]} (as root on Debian: apt-get install ${missing[*]})"
  fi
  say "installing ${missing[*]}"
  local install=(apt-get install -y -q --no-install-recommends "${missing[@]}")
  export DEBIAN_FRONTEND=noninteractive
  "${install[@]}" >&2 || { apt-get update -q >&2 && "${install[@]}" >&2; } || die "could not install ${missing[*]}"
}

has_std() { [ -n "$(find "$(rustc --print sysroot)/lib/rustlib/$target/lib" -name 'libstd-*.rlib' 2>/dev/null)" ]; }

# One at a time: tests call this too.
mkdir -p "$folder"
exec 9>"$folder/$machine.lock"
flock 9

# The flags and the compiler of a cargo around this one are not for this build.
unset CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CLIPPY_ARGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET_DIR
if [ "$machine" != "$own" ]; then
  install_cross
  linker=CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')_LINKER
  export "$linker=$machine-linux-gnu-gcc"
  if ! has_std; then
    rust=$(foreign_rust)
    libraries=$rust/usr/lib/$own-linux-gnu:$rust/usr/lib
    export RUSTC=$rust/usr/bin/rustc LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    # Another compiler's results would be built again and again.
    folder=$folder-foreign
  fi
fi
export CARGO_ENCODED_RUSTFLAGS=$flags
cargo build --quiet --locked --package landfall-host --bin landfall-host --profile "$profile" --target "$target" --target-dir "$folder" >&2 9>&- ||
  die "landfall-host for $machine can't be built"
realpath "$folder/$target/$profile/landfall-host"
