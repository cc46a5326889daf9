# CRIU for live migration, of a version that knows today's kernels (4.2 or newer). To be sourced after host.sh.
#
# Debian's own releases have none or an older one, so it is taken from Debian's sid: the packages are fetched
# over the mirror that the host uses anyway, unpacked into a folder, and never installed. A small program of
# the same name runs it with the C library that came along.

# offer_criu FOLDER: names in STAPES_CRIU a program `criu`, unless there is a good one already. Without one
# everything else works, so that a host that cannot have it (no Debian, no mirror) is only told so.
offer_criu() {
    local folder=$1
    if [ -n "${STAPES_CRIU:-}" ] || criu_is_good criu; then return 0; fi
    if ! criu_is_good "$folder/criu"; then
        say "fetching CRIU"
        fetch_criu "$folder" || {
            note "CRIU could not be fetched: guests move without a stop only where it is there"
            return 0
        }
    fi
    export STAPES_CRIU=$folder/criu
}

# criu_is_good PROGRAM: whether it runs and is 4.2 or newer.
criu_is_good() {
    command -v "$1" >/dev/null || return 1
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^Version: \([0-9.]*\).*/\1/p')
    [ -n "$version" ] && [ "$(printf '4.2\n%s\n' "$version" | sort -V | head -n 1)" = 4.2 ]
}

fetch_criu() {
    local folder=$1 work archive options
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    work=$(mktemp -d) || return 1
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
    sid_source >"$work/sid.list"
    options=(-o "Dir::Etc::sourcelist=$work/sid.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=-
        -o Dir::Etc::preferences=- -o "Dir::State::lists=$work/lists" -o Dir::State::status=/dev/null
        -o "Dir::Cache::archives=$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root)
    # Nothing counts as installed: what CRIU needs comes along, the C library first.
    if [ -s "$work/sid.list" ] &&
        apt-get -q "${options[@]}" update >"$work/log" 2>&1 &&
        apt-get -q -y "${options[@]}" --no-install-recommends --download-only install criu >>"$work/log" 2>&1
    then
        for archive in "$work"/archives/*.deb; do dpkg-deb -x "$archive" "$work/root" || return 1; done
        write_criu_program "$work/root" "$folder"
    else
        tail -n 5 "$work/log" >&2
    fi
    rm -rf "$work"
    criu_is_good "$folder/criu"
}

# The first source of Debian itself that apt has here, with its suite changed.
sid_source() {
    {
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
            sed -n 's/^deb \+\(\[[^]]*\] \+\)\?\([^ ]\+\) .*/\2/p'
        sed -n 's/^URIs: *\([^ ]\+\).*/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null
    } | grep '/debian/\?$' | head -n 1 | while read -r mirror; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main"
    done
}

# Puts what was unpacked in place, and the program before it, which appears last and whole.
write_criu_program() {
    local root=$1 folder=$2
    rm -rf "$folder"
    mkdir -p "$folder"
    mv "$root" "$folder/root"
    cat >"$folder/criu.new" <<'PROGRAM'
#!/bin/sh
# CRIU with the libraries that it was built for.
root=$(dirname "$(readlink -f "$0")")/root
case $(uname -m) in
x86_64) loader=ld-linux-x86-64.so.2 triplet=x86_64-linux-gnu ;;
*) loader=ld-linux-aarch64.so.1 triplet=aarch64-linux-gnu ;;
esac
exec "$root/usr/lib/$triplet/$loader" --library-path "$root/usr/lib/$triplet:$root/lib/$triplet" \
    "$root/usr/sbin/criu" "$@"
PROGRAM
    chmod 755 "$folder/criu.new"
    mv "$folder/criu.new" "$folder/criu"
}
