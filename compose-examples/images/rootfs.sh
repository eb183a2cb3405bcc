#!/usr/bin/env bash
# Makes the root file system of one server image from Debian packages:
#
#   rootfs.sh postgres|redis|nginx OUTPUT-FOLDER
#
# The packages come through apt, with a package state of their own, so that
# neither root nor a change to this machine is needed. OUTPUT-FOLDER then holds
# rootfs.tar and the Dockerfile that makes an image of it. A second run with the
# same inputs does nothing; FORCE=1 makes it anew (for newer packages).
set -euo pipefail
export LC_ALL=C

die() { printf 'rootfs.sh: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: rootfs.sh postgres|redis|nginx OUTPUT-FOLDER"
name=$1
out=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)

# What goes in. "skip" are dependencies of the packages' installation scripts
# and of parts that the image leaves out (LLVM serves PostgreSQL's JIT only).
common_skip="adduser debconf dpkg init-system-helpers libaudit-common libdb5.3 libfile-find-rule-perl
libgdbm-compat4 libgdbm6 libnumber-compare-perl libpam-modules libpam-modules-bin libperl5.36 libsemanage-common
libsemanage2 libsepol2 libtext-glob-perl lsb-base passwd perl perl-base perl-modules-5.36 sysvinit-utils tar
usrmerge gcc-12-base sensible-utils ucf"
case $name in
postgres)
	packages="postgresql-15 dash libc-bin tzdata netbase"
	skip="$common_skip libjson-perl postgresql-common postgresql-client-common openssl ssl-cert locales libc-l10n
	libllvm14 libz3-4 libedit2 readline-common"
	;;
redis)
	packages="redis-server dash netbase"
	skip="$common_skip libc-bin"
	;;
nginx)
	packages="nginx dash netbase"
	skip="$common_skip iproute2 libbpf1 libelf1 libmnl0 libcap2-bin libxtables12 libtirpc3 libtirpc-common"
	;;
*) die "no image named $name: one of postgres, redis, nginx" ;;
esac

# The inputs decide whether there is anything to do.
stamp=$(cat "$here/rootfs.sh" "$here/entrypoint/"*.go "$here/$name/"* "$repo/go.mod" | sha256sum | cut -d' ' -f1)
if [ "${FORCE:-}" = "" ] && [ -f "$out/rootfs.tar" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
	echo "image $name: root file system is up to date"
	exit 0
fi

[ "$(uname -s)" = Linux ] || die "$name is built from Debian packages, which needs Linux; here, pull the usual image instead (see compose-examples/shop/README.md)"
for tool in apt-get dpkg-deb tar go; do
	command -v "$tool" >/dev/null || die "$tool is missing: $name is built from Debian 12 packages; on another system pull the usual image instead (see compose-examples/shop/README.md)"
done
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
[ "$codename" = bookworm ] || die "$name is built from Debian 12 (bookworm) packages and this is $codename: pull the usual image instead (see compose-examples/shop/README.md)"

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cache=$(cd "$out/.." && pwd)/apt
mkdir -p "$cache/archives/partial" "$cache/state/lists/partial"
: >"$cache/state/status"
apt=(apt-get -q -o "Dir::State=$cache/state" -o "Dir::State::status=$cache/state/status" -o "Dir::Cache=$cache"
	-o APT::Install-Recommends=false -o APT::Sandbox::User= -o Debug::NoLocking=1)

# One list update serves the three images: an hour is fresh enough.
if [ -z "$(find "$cache/state/updated" -mmin -60 2>/dev/null)" ]; then
	"${apt[@]}" update >"$work/update.log" 2>&1 || { cat "$work/update.log" >&2; die "package lists could not be fetched"; }
	touch "$cache/state/updated"
fi

# shellcheck disable=SC2086 # the package list is words
mkdir -p "$work/none/partial" # apt leaves out what its archive folder already holds
"${apt[@]}" -o "Dir::Cache::archives=$work/none" -y --print-uris install $packages >"$work/uris" 2>"$work/uris.err" || { cat "$work/uris.err" >&2; die "no package list for: $packages"; }
# One line a package: its name and its archive's file name, without what is skipped.
sed -n "s/^'[^']*' \(\([^_ ]*\)_[^ ]*\).*/\2 \1/p" "$work/uris" | sort >"$work/closure"
join -v1 "$work/closure" <(tr -s ' \t\n' '\n' <<<"$skip" | sort -u) >"$work/wanted"
[ -s "$work/wanted" ] || die "apt gave no package for: $packages"
missing=$(while read -r package archive; do [ -f "$cache/archives/$archive" ] || echo "$package"; done <"$work/wanted")
if [ -n "$missing" ]; then
	(cd "$cache/archives" && xargs "${apt[@]}" download <<<"$missing" >"$work/download.log" 2>&1) || { cat "$work/download.log" >&2; die "packages could not be fetched"; }
fi

root=$work/root
mkdir -p "$root"
while read -r _ archive; do
	dpkg-deb -x "$cache/archives/$archive" "$root"
done <"$work/wanted"

# Nothing that a server does not read at run time.
rm -rf "$root"/usr/share/{doc,man,info,locale,lintian,bug,doc-base,perl,perl5,initramfs-tools,vim,bash-completion,apport,debianutils,menu,postgresql-common} \
	"$root"/etc/{init.d,cron.d,cron.daily,logrotate.d,default,ufw,apparmor.d,logcheck,update-motd.d,systemd,dpkg} "$root"/lib/systemd "$root"/usr/lib/systemd \
	"$root"/usr/lib/x86_64-linux-gnu/{gconv,perl,perl-base} "$root"/usr/share/zoneinfo/{right,posix} \
	"$root"/usr/lib/postgresql/15/lib/{llvmjit.so,bitcode} "$root"/usr/share/postgresql/15/{man,tsearch_data/*.sample.orig}
find "$root" -path '*/locale/*' -name '*.mo' -delete
mkdir -p "$root"/{bin,dev,etc,proc,run,sys,tmp,var/log,root}
chmod 1777 "$root/tmp"
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
case $name in
postgres)
	echo 'postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh' >>"$root/etc/passwd"
	echo 'postgres:x:999:' >>"$root/etc/group"
	mkdir -p "$root/var/lib/postgresql/data" "$root/var/run/postgresql"
	;;
redis)
	echo 'redis:x:999:999:Redis:/data:/bin/false' >>"$root/etc/passwd"
	echo 'redis:x:999:' >>"$root/etc/group"
	mkdir -p "$root/data"
	;;
nginx)
	echo 'nginx:x:101:101:nginx:/nonexistent:/bin/false' >>"$root/etc/passwd"
	echo 'nginx:x:101:' >>"$root/etc/group"
	rm -rf "$root"/etc/nginx/{sites-enabled,sites-available,modules-enabled,conf.d,snippets}
	mkdir -p "$root/etc/nginx/conf.d" "$root/var/log/nginx" "$root/var/lib/nginx"
	cp "$here/nginx/nginx.conf" "$root/etc/nginx/nginx.conf"
	ln -sf /dev/stdout "$root/var/log/nginx/access.log"
	ln -sf /dev/stderr "$root/var/log/nginx/error.log"
	;;
esac
(cd "$repo" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$root/entrypoint" ./compose-examples/images/entrypoint)

# Owners and times are fixed, so the same packages make the same archive.
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$out/rootfs.tar" .
cp "$here/$name/Dockerfile" "$out/Dockerfile"
printf '%s\n' "$stamp" >"$out/stamp"
echo "image $name: root file system made from $(wc -l <"$work/wanted") packages, $(du -h "$out/rootfs.tar" | cut -f1)"
