#!/bin/bash
# Install the Debian packages that a node needs and this machine lacks.
set -euo pipefail
PACKAGES=(containerd runc containernetworking-plugins iptables nftables conntrack socat libnuma1 iproute2 openssl util-linux)

missing=()
for package in "${PACKAGES[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || { echo "not a Debian system: install these yourself: ${missing[*]}" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "not root: run 'apt-get install ${missing[*]}'" >&2; exit 1; }
echo "installing ${missing[*]} ..." >&2
export DEBIAN_FRONTEND=noninteractive
# The daemons that packages bring stay off: the sandbox runs its own containerd, in its own namespaces.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
fi
{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
  { echo "apt-get failed; see it with: apt-get update && apt-get install ${missing[*]}" >&2; exit 1; }
