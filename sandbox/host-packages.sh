#!/bin/bash
# Install the Debian packages whose programs a node needs and this machine lacks; what is there stays as it is.
# PROGRAM:PACKAGE as an argument is one more of them, which not everybody needs; /FILE:PACKAGE is looked for as a file.
set -euo pipefail

# By program, not by package: Docker brings containerd and runc in containerd.io, which conflicts with Debian's
# packages of these names, and apt would remove Docker for them.
NEEDED=(containerd:containerd runc:runc /usr/lib/cni/ptp:containernetworking-plugins iptables:iptables nft:nftables
  conntrack:conntrack socat:socat ip:iproute2 openssl:openssl unshare:util-linux "$@")

PATH=$PATH:/usr/sbin:/sbin # a user's PATH lacks them
missing=()
for needed in "${NEEDED[@]}"; do
  program=${needed%:*}
  command -v "$program" >/dev/null || [[ $program == /* && -e $program ]] || missing+=("${needed#*:}")
done
[[ $(ldconfig -p) == *libnuma.so.1* ]] || missing+=(libnuma1) # vLLM loads it
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || { echo "not a Debian system: install these yourself: ${missing[*]}" >&2; exit 1; }
install="apt-get install --no-remove ${missing[*]}"
[ "$(id -u)" = 0 ] || { echo "not root: run '$install'" >&2; exit 1; }
echo "installing ${missing[*]} ..." >&2
export DEBIAN_FRONTEND=noninteractive
# The daemons that packages bring stay off: the sandbox runs its own containerd, in its own namespaces.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
fi
{ apt-get update && apt-get install -y --no-remove --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 || {
  echo "apt-get could not install ${missing[*]} (nothing may be removed for it); see why: apt-get update && $install" >&2
  exit 1
}
