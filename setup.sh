#!/bin/sh
# Puts in place what the experiment needs, and says nothing when it is all there:
#   1. Deno of exactly the version in .dvmrc, through npm;
#   2. on Linux, a Vulkan loader and Mesa's software driver when no Vulkan device answers;
#   3. the npm packages of deno.lock.
# Run it as often as you like. As root or with sudo it installs what is missing; otherwise it prints the line to run.
set -eu

cd -- "$(dirname -- "$0")"
version=$(cat .dvmrc)
log=$(mktemp "${TMPDIR:-/tmp}/setup.XXXXXX")
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

say() { printf '%s\n' "setup: $*"; }

fail() {
  for line in "$@"; do printf '%s\n' "setup: $line" >&2; done
  exit 1
}

# Runs a command quietly; shows what it wrote only when it fails.
quietly() {
  "$@" >"$log" 2>&1 || {
    status=$?
    cat "$log" >&2
    return "$status"
  }
}

# Runs a command as root: directly, with sudo, or not at all (status 126).
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo "$@"
  else
    return 126
  fi
}

# Version of a deno binary, empty when it does not run.
version_of() { "$1" --version 2>/dev/null | sed -n '1s/^deno \([^ ]*\).*/\1/p'; }

on_path() { case ":$PATH:" in *":$1:"*) return 0 ;; *) return 1 ;; esac }

# The first folder of PATH that belongs to the user and takes a new link.
writable_folder_on_path() (
  IFS=:
  for folder in $PATH; do
    case $folder in
      "$HOME"/* | /usr/local/bin)
        if [ -d "$folder" ] && [ -w "$folder" ]; then
          printf '%s\n' "$folder"
          return 0
        fi
        ;;
    esac
  done
  return 1
)

npm_install() { # npm_install [--prefix FOLDER]
  quietly npm install --global --no-fund --no-audit --no-update-notifier --loglevel=error "$@" "deno@$version"
}

install_deno() {
  command -v npm >/dev/null 2>&1 || fail \
    "Deno $version is not here, and neither is npm, which would install it." \
    "Install Node.js with npm (Debian: apt-get install nodejs npm), or Deno $version itself, and run ./setup.sh again."
  found=$(version_of deno)
  say "installing Deno $version through npm${found:+ (found $found)} …"
  prefix=$(npm config get prefix 2>/dev/null)
  modules=$prefix/lib/node_modules
  [ -d "$modules" ] || modules=$prefix/lib
  [ -d "$modules" ] || modules=$prefix
  if [ -w "$modules" ] && on_path "$prefix/bin"; then
    npm_install || fail "npm could not install Deno $version."
    bin=$prefix/bin
  else
    npm_install --prefix "$HOME/.local" || fail "npm could not install Deno $version."
    bin=$HOME/.local/bin
    if ! on_path "$bin"; then
      if folder=$(writable_folder_on_path); then
        ln -sf "$bin/deno" "$folder/deno"
        say "linked $folder/deno to $bin/deno"
        bin=$folder
      elif sudo -n true 2>/dev/null && on_path /usr/local/bin; then
        sudo ln -sf "$bin/deno" /usr/local/bin/deno
        say "linked /usr/local/bin/deno to $bin/deno"
        bin=/usr/local/bin
      fi
    fi
  fi
  [ "$(version_of "$bin/deno")" = "$version" ] || fail \
    "$bin/deno does not run, or is not version $version, although npm installed it." \
    "If npm is set to ignore install scripts (npm config get ignore-scripts), allow them for this package."
  hash -r
  [ "$(version_of deno)" = "$version" ] || fail \
    "Deno $version is at $bin/deno, but the shell finds $(command -v deno || echo none). Put it first, and run ./setup.sh again:" \
    "  export PATH=\"$bin:\$PATH\""
}

# Whether a Vulkan device answers WebGPU. wgpu would fall back to OpenGL, where compute is slow and half of it is missing.
vulkan_answers() {
  DENO_WEBGPU_BACKEND=vulkan XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/tmp} deno eval --no-config \
    'Deno.exit(await navigator.gpu.requestAdapter() === null ? 1 : 0)' >/dev/null 2>&1
}

install_vulkan() {
  packages='libvulkan1 mesa-vulkan-drivers'
  say "no Vulkan device answers; a loader and Mesa's software driver are needed"
  if ! command -v apt-get >/dev/null 2>&1; then
    fail "Install a Vulkan loader and a driver, and run ./setup.sh again. Software drivers:" \
      "  Fedora: dnf install vulkan-loader mesa-vulkan-drivers" \
      "  Arch:   pacman -S vulkan-icd-loader vulkan-swrast" \
      "  Alpine: apk add vulkan-loader mesa-vulkan-swrast"
  fi
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of packages
  apt_install() { as_root apt-get install -y -q --no-install-recommends $packages; }
  # An empty or stale package index is the usual reason for a failure.
  if ! apt_install >"$log" 2>&1; then
    { as_root apt-get update -q && apt_install; } >"$log" 2>&1 || {
      cat "$log" >&2
      fail "Run this as root, then ./setup.sh again:" "  apt-get update && apt-get install -y $packages"
    }
  fi
  vulkan_answers && return
  for variable in VK_ICD_FILENAMES VK_DRIVER_FILES VK_LOADER_DRIVERS_DISABLE; do
    value=$(printenv "$variable" || true)
    [ -z "$value" ] || fail \
      "No Vulkan device answers although the packages are installed: $variable=$value hides the drivers. Unset it."
  done
  fail "No Vulkan device answers although $packages are installed." \
    "'deno task doctor' shows what Deno sees; 'vulkaninfo' (package vulkan-tools) what the loader sees."
}

[ "$(version_of deno)" = "$version" ] || install_deno
if [ "$(uname -s)" = Linux ] && ! vulkan_answers; then install_vulkan; fi
quietly deno install --frozen || fail "The packages of deno.lock could not be installed."
