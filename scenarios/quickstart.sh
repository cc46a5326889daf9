#!/bin/bash
# A Debian guest on an event log, from nothing: run as root on a fresh Debian 12 machine with Rust.
# It builds stapes, runs a guest, breaks things, shows what the log knows of it, and takes all away.
set -euo pipefail
cd "$(dirname "$0")/.."
. scenarios/lib/host.sh
. scenarios/lib/leaks.sh

usage() {
    cat <<'TEXT'
usage: scenarios/quickstart.sh [--keep [DIR]]

  --keep [DIR]  leave the daemon and its guests running, in DIR (default: a new directory below /var/lib)

Takes some minutes, most of them for building stapes and a Debian image. Exits with 0 only if all of it
held. Environment: STAPES_PROFILE (release) is the cargo profile; STAPES_BIN the program stapes if
it is built already; LEAKS_SHARED=1 compares only what is its own, where others use the machine meanwhile.
TEXT
}

keep=
dir=
while [ $# -gt 0 ]; do
    case $1 in
        --keep)
            keep=yes
            if [ $# -gt 1 ] && [[ $2 != -* ]]; then dir=$2 && shift; fi
            ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "real guests need root: sudo $0   (without root: stapes daemon --simulated)"
command -v cargo >/dev/null || [ -n "${STAPES_BIN:-}" ] || fail "cargo is not there: install Rust first"

# ---- What it does is timed and told -------------------------------------------------------------

took=()
proved=()

# timed LABEL COMMAND…: runs it, shows it, and remembers how long it took.
timed() {
    local label=$1 from to
    shift
    printf '$ %s\n' "$*"
    from=${EPOCHREALTIME//[.,]/}
    "$@"
    to=${EPOCHREALTIME//[.,]/}
    took+=("$(printf '%-44s %8d.%d ms' "$label" $(((to - from) / 1000)) $(((to - from) / 100 % 10)))")
}

# proves TEXT COMMAND…: the command must hold.
proves() {
    local text=$1
    shift
    "$@" || fail "this did not hold: $text"
    proved+=("$text")
    note "proved: $text"
}

same() {
    [ "$1" = "$2" ] || {
        printf 'expected %q, got %q\n' "$2" "$1" >&2
        return 1
    }
}

# eventually SECONDS COMMAND…: repeats it until it succeeds, at most so long.
eventually() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.05
    done
}

# ---- The daemon, and the way out ----------------------------------------------------------------

daemon=
tail=
ended=
line=?

start_daemon() {
    stapes daemon --log-level info 2>>"$dir.daemon.log" </dev/null &
    daemon=$!
    stapes waitready --timeout 60
}

follow() {
    stapes tail --since start --cursor-file "$dir.cursor" >>"$dir.tail" 2>/dev/null </dev/null &
    tail=$!
}

stop_following() {
    [ -z "$tail" ] || kill "$tail" 2>/dev/null || true
    [ -z "$tail" ] || wait "$tail" 2>/dev/null || true
    tail=
}

leave() {
    local code=$?
    trap - EXIT
    [ -z "$ended" ] || exit "$code"
    set +e
    trap - ERR
    stop_following
    printf '\nquickstart: it did not hold, see above (line %s)\n' "$line" >&2
    if [ -n "$daemon" ]; then
        printf 'the last words of the daemon:\n' >&2
        tail -n 20 "$dir.daemon.log" >&2
        kill -9 "$daemon" 2>/dev/null
        wait "$daemon" 2>/dev/null
    fi
    if [ -n "$dir" ]; then
        sweep "$dir" "$bridge"
        rm -f "$dir".{daemon.log,cursor,tail,before,after}
        note "all that was made is removed again"
    fi
    [ "$code" != 0 ] || code=1
    exit "$code"
}

# ---- 1. Tools and programs ----------------------------------------------------------------------

needs mkfs.btrfs=btrfs-progs nft=nftables ip=iproute2 losetup=mount mmdebstrap=mmdebstrap \
    mksquashfs=squashfs-tools xz=xz-utils zstd=zstd cc=build-essential awk=mawk \
    /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring

if [ -z "${STAPES_BIN:-}" ]; then
    profile=${STAPES_PROFILE:-release}
    say "building stapes ($profile)"
    cargo build --profile "$profile" --locked --bin stapes --bin stapes-shim --bin stapes-unpack
    [ "$profile" != dev ] || profile=debug
    STAPES_BIN="$(target_directory)/$profile/stapes"
fi
PATH="$(dirname "$(realpath "$STAPES_BIN")"):$PATH"
export PATH

# ---- 2. A daemon of its own ---------------------------------------------------------------------

if [ -z "$dir" ]; then dir=$(mktemp -d /var/lib/stapes-quickstart.XXXXXX); fi
mkdir -p "$dir"
chmod 0711 "$dir"
[ ! -e "$dir/log" ] || { dir= && fail "there is an installation in that directory already"; }
bridge="qs$$"
export STAPES_DIR=$dir
trap 'line=$LINENO' ERR
trap leave EXIT
trap 'exit 130' INT TERM
[ -z "${LEAKS_SHARED:-}" ] || LEAKS_ONLY="$(tag_of "$dir")|$dir|$bridge"
leaks_list >"$dir.before"

say "a daemon, a pool, a network, a profile"
timed "daemon, until it serves" start_daemon
timed "init --auto" stapes init --auto --bridge "$bridge"
follow

say "an image out of Debian's packages"
timed "image build debian/12" stapes image build debian/12

# ---- 3. A guest ---------------------------------------------------------------------------------

say "a Debian guest"
timed "launch (first, unpacks the image)" stapes launch debian/12 web
reachable() { stapes exec "$1" -- test -S /run/dbus/system_bus_socket 2>/dev/null; }
booted() { eventually 60 reachable "$1" && stapes exec "$1" -- systemctl is-system-running --wait; }
timed "systemd, until it is up" booted web >"$dir.after"
proves "a Debian 12 guest runs systemd: $(tail -n 1 "$dir.after")" same "$(tail -n 1 "$dir.after")" running
timed "exec" stapes exec web -- cat /etc/debian_version
init_of() { stapes info "$1" | awk '$1 == "PID:" { print $2 }'; }
proves "the guest is unprivileged" test "$(stat -c %u "/proc/$(init_of web)")" -ge 100000

say "a second guest finds the first by its name"
timed "launch (second)" stapes launch debian/12 db
booted db >/dev/null
address=$(stapes exec web -- hostname -I | awk '{ print $1 }')
resolves() { stapes exec db -- getent ahostsv4 web >"$dir.after" && grep -q "^$address " "$dir.after"; }
proves "the neighbour's name resolves to its address ($address) inside" eventually 20 resolves

say "a snapshot, a mistake, and back"
stapes exec web -- sh -c 'echo precious >/root/note; sync'
timed "snapshot create" stapes snapshot create web before
stapes exec web -- sh -c 'echo broken >/root/note; rm -r /etc/apt; sync'
timed "snapshot restore (of a running guest)" stapes snapshot restore web before
proves "the restored file has its content back" same "$(stapes exec web -- cat /root/note)" precious
proves "the removed directory is back" stapes exec web -- test -d /etc/apt
timed "config set limits.memory (live)" stapes config set web limits.memory 512MiB

# ---- 4. The daemon dies -------------------------------------------------------------------------

say "kill -9 of the daemon"
booted web >/dev/null
init=$(init_of web)
started=$(awk '{ print $22 }' "/proc/$init/stat")
kill -9 "$daemon"
wait "$daemon" 2>/dev/null || true
stop_following
proves "the guest runs on without a daemon" same "$(awk '{ print $22 }' "/proc/$init/stat")" "$started"
timed "daemon again, guests adopted" start_daemon
follow
proves "it is the same guest, adopted (init is still $init)" same "$(init_of web)" "$init"
proves "exec works in the adopted guest" same "$(stapes exec web -- cat /root/note)" precious

# ---- 5. What the log knows ----------------------------------------------------------------------

say "the timeline of web"
timed "log" stapes log web
proves "the timeline names the snapshot" grep -q snapshot-taken <<<"$(stapes log web)"
say "web at the moment of its snapshot"
timed "show --at" stapes show web --at r5 -f yaml >"$dir.after"
limited() { grep -q limits.memory "$1"; }
proves "web is shown as it was: without the limit" eval '! limited "$dir.after"'
stapes show web -f yaml >"$dir.after"
proves "... and as it is: with the limit" limited "$dir.after"
timed "replay --verify" stapes replay --verify >"$dir.after"
cat "$dir.after"
proves "state rebuilt from the log is what is served" grep -q '^identical: true' "$dir.after"

if [ -n "$keep" ]; then
    ended=yes
    stop_following
    disown "$daemon"
    say "kept, as asked: the daemon ($daemon) and two guests"
    note "export STAPES_DIR=$dir PATH=$(dirname "$(command -v stapes)"):\$PATH"
    note "stapes list; stapes shell web; stapes log; stapes tail"
    note "INCUS_DIR=\$STAPES_DIR incus list     (the incus client, unchanged)"
    note "to take it away: stapes delete --force web db; stapes image delete debian/12;"
    note "  stapes profile device remove default root; stapes profile device remove default eth0;"
    note "  stapes network delete $bridge; stapes storage delete default; stapes shutdown; rm -r $dir*"
    exit 0
fi

# ---- 6. All of it goes --------------------------------------------------------------------------

say "everything is deleted"
timed "stop (systemd ends in order)" stapes stop db
timed "start" stapes start db
timed "stop --force" stapes stop --force db
timed "delete" stapes delete db
timed "delete --force (running)" stapes delete --force web
stapes image delete debian/12
stapes profile device remove default root
stapes profile device remove default eth0
stapes network delete "$bridge"
stapes storage delete default
proves "nothing is left in the lists" same "$(stapes list -f csv; stapes image list -f csv)" ""
timed "shutdown" stapes shutdown
wait "$daemon" || fail "the daemon ended with $?"
daemon=
stop_following

leaks_list >"$dir.after"
proves "no cgroup, namespace, link, mount, loop device, nft table or process is left" \
    leaks_compare "$dir.before" "$dir.after"
proves "tail saw the whole story, over the daemon's death" grep -q instance.deleted "$dir.tail"

say "what \`stapes tail\` saw meanwhile (the last of $(wc -l <"$dir.tail") lines)"
cut -c1-150 "$dir.tail" | tail -n 15
rm -rf "$dir" "$dir".{daemon.log,cursor,tail,before,after}
ended=yes

say "how long it took"
printf '   %s\n' "${took[@]}"
say "what was proved"
printf '   %s\n' "${proved[@]}"
printf '\nquickstart: all of it held\n'
