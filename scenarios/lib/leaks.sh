# What a host holds that stapes could leave behind, as sorted lines; and a comparison of two such lists.
# To be sourced. Needs iproute2, nftables and util-linux; run as root.

# Prints one line for each cgroup, network namespace, link, mount, loop device, nft table and process
# that stapes makes. Names only: numbers that change by themselves would make every comparison differ.
leaks_list() {
    {
        # Control groups of ours; an init system makes and removes its own all the time.
        find /sys/fs/cgroup -type d -path '*stapes*' -printf 'cgroup %p\n' 2>/dev/null || true
        # Network namespaces that a name or a mount holds; those of processes end with them.
        find /run/netns -mindepth 1 -printf 'netns %p\n' 2>/dev/null || true
        ip -o link show 2>/dev/null | awk '{ sub(/@.*/, "", $2); sub(/:$/, "", $2)
            for (i = 3; i < NF; i++) if ($i == "master") $2 = $2 " of " $(i + 1)
            print "link " $2 }'
        awk '{ print "mount " $5 }' /proc/self/mountinfo
        losetup --list --noheadings --output NAME,BACK-FILE 2>/dev/null | awk '{ print "loop " $1 " " $2 }'
        nft list tables 2>/dev/null | awk '{ print "nft " $2 " " $3 }'
        leaks_processes
    } | LC_ALL=C sort -u
}

# Processes of stapes: by program, or by the control group that they were put into.
leaks_processes() {
    local dir exe group
    for dir in /proc/[0-9]*; do
        exe=$(readlink "$dir/exe" 2>/dev/null) || continue
        group=$(grep -m1 -o 'stapes[^:]*' "$dir/cgroup" 2>/dev/null) || group=
        case "${exe##*/}" in
            stapes | stapes-shim | stapes-unpack | 'stapes (deleted)') echo "process $exe (${dir#/proc/})" ;;
            *) if [ -n "$group" ]; then echo "process $exe (${dir#/proc/}) in $group"; fi ;;
        esac
    done
}

# leaks_compare BEFORE AFTER: shows what is new and fails if anything is. On a machine that others use
# at the same time, LEAKS_ONLY (an extended regular expression) says which lines are ours.
leaks_compare() {
    local new
    new=$(LC_ALL=C comm -13 "$1" "$2" | grep -E -- "${LEAKS_ONLY:-.}") || true
    [ -n "$new" ] || return 0
    printf 'left behind:\n%s\n' "$new" >&2
    return 1
}
