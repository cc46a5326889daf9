#!/bin/bash
# Times stapes beside Incus 6.0.4 on this machine, in one run, and prints the tables.
#
#   scenarios/bench.sh [ROUNDS] [busybox|debian ...]
#
# Needs root, Debian 12 with bookworm-backports, busybox-static (and mmdebstrap for debian). Both
# servers get directories and pools of their own and one network namespace, so that nobody's network
# is touched; everything is taken away again, but for the packages that were installed.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-15}; shift || true
images=("${@:-busybox}")
work=/tmp/stapes-bench-$$
tag=$(printf '%s' "$$" | md5sum | cut -c1-6)
ours=$work/stapes peers=$work/incus
bin=${CARGO_TARGET_DIR:-target}/release
say() { printf '%s\n' "$*" >&2; }

install() {
    if ! command -v incus-benchmark >/dev/null || [ ! -x /usr/libexec/incus/incusd ]; then
        say "installing Incus from bookworm-backports (its services are not started)"
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
            -t bookworm-backports incus-base incus-client incus-extra dnsmasq-base >&2
    fi
    command -v dnsmasq >/dev/null || { say "dnsmasq is missing: apt install dnsmasq-base"; exit 1; }
}

as_ours() { STAPES_DIR=$ours "$PWD/$bin/stapes" "$@"; }
as_peer() { INCUS_DIR=$peers INCUS_CONF=$work/conf incus "$@"; }

cleanup() {
    set +e
    trap - EXIT
    say "cleaning up"
    for server in as_ours as_peer; do
        names=$($server list --format csv --columns n 2>/dev/null)
        [ -n "$names" ] && $server delete --force $names >/dev/null 2>&1
        for image in "${images[@]}"; do $server image delete "$image" >/dev/null 2>&1; done
        for device in root eth0; do $server profile device remove default $device >/dev/null 2>&1; done
    done
    as_ours network delete "sb$tag"; as_peer network delete "ib$tag"
    as_ours storage delete default; as_peer storage delete default
    for pid in ${our_pid:-} ${peer_pid:-}; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    grep -o " $work[^ ]*" /proc/self/mountinfo | sort -r | while read -r mount; do umount -l "$mount"; done
    losetup -a | grep "$work" | cut -d: -f1 | while read -r device; do losetup -d "$device"; done
    ip link delete "ib$tag" 2>/dev/null; ip link delete "sb$tag" 2>/dev/null
    rm -rf "$work"
} >&2

wait_for() {  # SOCKET LOG
    for _ in $(seq 300); do
        curl -sf --unix-socket "$1" http://x/1.0 >/dev/null && return
        read -rt 0.1 <> <(:) || true
    done
    tail -20 "$2" >&2; exit 1
}

preseed() {  # BRIDGE
    cat <<END
storage_pools:
- {name: default, driver: btrfs, config: {size: 10GiB}}
networks:
- {name: $1, type: bridge, config: {ipv4.address: auto, ipv6.address: none}}
profiles:
- name: default
  devices:
    root: {type: disk, path: /, pool: default}
    eth0: {type: nic, network: $1, name: eth0}
END
}

start() {
    mkdir -p "$ours" "$peers" "$work/conf"; chmod 711 "$work" "$ours" "$peers"
    STAPES_DIR=$ours "$bin/stapes" daemon --log-level warn 2>"$work/ours.log" & our_pid=$!
    INCUS_DIR=$peers /usr/libexec/incus/incusd --group root 2>"$work/peer.log" & peer_pid=$!
    wait_for "$ours/unix.socket" "$work/ours.log"; wait_for "$peers/unix.socket" "$work/peer.log"
    preseed "ib$tag" | as_peer admin init --preseed >&2
    preseed "sb$tag" | as_ours init --preseed >&2
    for image in "${images[@]}"; do
        recipe=$image; [ "$image" = debian ] && recipe=debian/12
        file=${STAPES_BENCH_IMAGES:-$work}/$image.tar.zst
        if [ ! -e "$file" ]; then
            mkdir -p "$work/build"; as_ours image build "$recipe" --output "$work/build" >&2
            mv "$work"/build/* "$file"
        fi
        as_ours image import "$file" --alias "$image" >&2
        as_peer image import "$file" --alias "$image" >&2
    done
}

rate() {  # NAME DIRECTORY: 32 launches, four at once, then stop and delete
    for verb in "launch --count 32 --parallel 4 busybox" "stop --parallel 4" "delete --parallel 4"; do
        said=$(INCUS_DIR=$2 INCUS_CONF=$work/conf incus-benchmark $verb 2>&1) || say "$said"
        failed=$(grep -c Failed <<<"$said" || true)
        rate=$(grep -oE 'Processed .*' <<<"$said" | tail -1)
        printf '| %s | %s | %s | %s |\n' "$1" "${verb%% --*}" "${rate:-$(tail -1 <<<"$said")}" "$failed"
    done
}

memory() {  # with 30 guests
    for server in as_ours as_peer; do
        for n in $(seq 30); do $server launch busybox "m$n" >/dev/null 2>&1; done
    done
    printf '| with 30 guests | RSS MiB | private MiB |\n|---|---|---|\n'
    process() { awk -v what="$1" '/^Rss/ {r=$2} /^Private/ {p+=$2} END {printf "| %s | %.1f | %.1f |\n", what, r/1024, p/1024}' "/proc/$2/smaps_rollup"; }
    process "stapes daemon" "$our_pid"; process incusd "$peer_pid"
    shims=$(pgrep -P "$our_pid" stapes-shim || true)
    each "each stapes-shim (of $(wc -w <<<"$shims"))" $shims
    each "each lxc monitor" $(pgrep -f "lxc monitor.*$peers" || true)
}

each() {  # WHAT PIDS...: the mean
    what=$1; shift; [ $# -gt 0 ] || return 0
    for pid in "$@"; do cat "/proc/$pid/smaps_rollup" 2>/dev/null; done |
        awk -v what="$what" -v n=$# '/^Rss/ {r+=$2} /^Private/ {p+=$2} END {printf "| %s | %.2f | %.2f |\n", what, r/1024/n, p/1024/n}'
}

if [ -z "${STAPES_BENCH_INSIDE:-}" ]; then
    install
    if [ -z "${STAPES_BENCH_NO_BUILD:-}" ]; then
        cargo build --release -q -p stapes -p stapes-shim -p stapes-drivers --bins
        cargo build --release -q -p stapes-scenarios --example bench_incus
    fi
    STAPES_BENCH_INSIDE=1 exec unshare --net --mount --propagation private "$0" "$rounds" "${images[@]}"
fi
trap cleanup EXIT
ip link set lo up
# The namespace's own interfaces are shown by a sysfs of its own; the cgroups are the host's.
mkdir -p "$work/cgroup"
mount --rbind /sys/fs/cgroup "$work/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$work/cgroup" /sys/fs/cgroup
umount -l "$work/cgroup"
start
for image in "${images[@]}"; do
    "$bin/examples/bench_incus" "$ours/unix.socket" "$peers/unix.socket" "$image" "$rounds"
done
if printf '%s\n' "${images[@]}" | grep -qx busybox; then
    printf '\n| incus-benchmark, 32, parallel 4 | verb | rate | failed |\n|---|---|---|---|\n'
    rate stapes "$ours"; rate "Incus 6.0.4" "$peers"
    echo; memory
fi
