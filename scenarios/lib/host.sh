# What the scenarios need of a Debian host, and how they clear it. To be sourced.

say() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# needs PROGRAM=PACKAGE …: installs the packages whose program is not there; what holds a slash is a file.
needs() {
    local pair packages=()
    for pair in "$@"; do
        case "${pair%%=*}" in
            */*) [ -e "${pair%%=*}" ] || packages+=("${pair#*=}") ;;
            *) command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}") ;;
        esac
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "this is not a Debian: install ${packages[*]} and run it again"
    say "installing ${packages[*]}"
    apt_quietly update
    apt_quietly install -y --no-install-recommends "${packages[@]}"
}

# apt-get without questions, and without a word unless it fails.
apt_quietly() {
    local output
    output=$(DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" 2>&1 </dev/null) || {
        printf '%s\n' "$output" | tail -n 30 >&2
        fail "apt-get $1 failed, as said above"
    }
}

# Where cargo puts what it builds.
target_directory() {
    cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# The word by which a daemon of this directory marks what it makes on the host: the first part of the
# directory's name-based UUID (RFC 9562, version 5, namespace URL).
tag_of() {
    {
        printf '\x6b\xa7\xb8\x11\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8'
        printf '%s' "$(realpath "$1")"
    } | sha1sum | cut -c1-8
}

# sweep DIR BRIDGE: takes away by force all that a daemon of DIR has on the host, for when it cannot
# do so itself. Touches nothing that does not carry the directory's name or tag.
sweep() {
    local dir=$1 bridge=$2 tag group pid
    [ -d "$dir" ] || return 0
    tag=$(tag_of "$dir")
    for group in $(find /sys/fs/cgroup -type d -path "*/stapes-$tag*" 2>/dev/null); do
        while read -r pid; do
            if [ "$pid" != 0 ]; then kill -9 "$pid" 2>/dev/null; fi
        done <"$group/cgroup.procs"
    done
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r mount; do umount --lazy "$mount"; done
    losetup --list --noheadings --output NAME,BACK-FILE | awk -v dir="$dir/" 'index($2, dir) == 1 { print $1 }' |
        while read -r device; do losetup --detach "$device"; done
    if ip link show "$bridge" >/dev/null 2>&1; then ip link delete "$bridge"; fi
    nft delete table inet "stapes_$tag" 2>/dev/null
    nft delete table bridge "stapes_$tag" 2>/dev/null
    find /sys/fs/cgroup -depth -type d -path "*/stapes-$tag*" -exec rmdir {} + 2>/dev/null
    rm -rf "$dir"
}
