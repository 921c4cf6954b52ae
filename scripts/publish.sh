#!/usr/bin/env bash
# Publish images that pass their checks, by the options that people know; `rlimages publish` does it.
#   scripts/publish.sh -t ray -v 1.6.0 -f tensorflow -p cpu --target pre-production
#   scripts/publish.sh -t vw -v 8.7.0 -i 123456789012 -r us-west-2
set -euo pipefail
# shellcheck source=scripts/environment
. "$(dirname "${BASH_SOURCE[0]}")/environment"
# shellcheck source=scripts/selection
. "$project/scripts/selection"

usage() {
    cat <<END
usage: scripts/publish.sh [options] (--target NAME | --aws-id ACCOUNT | --registry HOST) [-- options of rlimages publish]
  -t, --toolkit NAME            by default all
  -v, --version VERSION         also --version-number; by default all
  -f, --framework NAME          tensorflow, pytorch or mxnet; by default all
  -p, --processor cpu|gpu       also --arch; by default both
      --line LINE               debian, amzn2023 or public; by default SageMaker's framework images
      --target NAME             target of targets.yaml, in all its regions
  -i, --aws-id ACCOUNT          your ECR, in one region; its repositories must be there
  -r, --region REGION           of that account; by default us-west-2
      --registry HOST           any other registry, host[:port][/prefix]
END
}

target='' account='' registry=''
take_option() {
    case $1 in
        --target) target=$2 ;;
        -i | --aws-id) account=$2 ;;
        --registry) registry=$2 ;;
        *) return 1 ;;
    esac
}

read_options "$@"
case ${target:+1}${account:+1}${registry:+1} in
    1) ;;
    *) misused "say where to publish to, with one of --target, --aws-id and --registry" ;;
esac
if [ -n "$region" ] && [ -z "$account" ]; then
    misused "--region is for --aws-id: a target has its regions in targets.yaml"
fi
[[ -z $account || $account =~ ^[0-9]{12}$ ]] || misused "--aws-id $account: an AWS account has twelve digits"
need_rlimages
if [ -n "$account" ]; then
    mapfile -t one < <(rlimages show "$pattern" --json | python3 -c 'import json, sys
cell = json.load(sys.stdin)[0]
words = {**cell, "framework": (cell["framework"] or {}).get("name")}
for word in ("toolkit", "version", "framework", "processor", "line"):
    if words[word]: print(f"--{word}={words[word]}")')
    [ "${#one[@]}" -gt 0 ] || exit 5 # the line above said why
    address=$(rlimages uri "${one[@]}" --account "$account" ${region:+--region "$region"})
    registry=${address%%/*}
fi
rlimages publish --select "$pattern" ${target:+--target "$target"} ${registry:+--to "$registry"} ${rest[@]+"${rest[@]}"}
