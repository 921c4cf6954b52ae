#!/usr/bin/env bash
# Publish images that pass their checks, selected by toolkit, version, framework and processor. Calls `rlimages publish`.
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
  -t, --toolkit NAME            all by default
  -v, --version VERSION         also --version-number; all by default
  -f, --framework NAME          tensorflow, pytorch or mxnet; all by default
  -p, --processor cpu|gpu       also --arch; both by default
      --line LINE               debian, amzn2023 or public; SageMaker's framework images by default
      --target NAME             target of targets.yaml, in all its regions
  -i, --aws-id ACCOUNT          ECR of your AWS account, in one region; the repositories must exist
  -r, --region REGION           region of --aws-id; us-west-2 by default
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
    *) misused "name the registry with exactly one of --target, --aws-id and --registry" ;;
esac
if [ -n "$region" ] && [ -z "$account" ]; then
    misused "--region is for --aws-id: a target has its regions in targets.yaml"
fi
[[ -z $account || $account =~ ^[0-9]{12}$ ]] || misused "--aws-id $account: an AWS account has twelve digits"
need_rlimages
if [ -n "$account" ]; then
    mapfile -t query < <(rlimages show "$pattern" --json | python3 -c 'import json, sys
cell = json.load(sys.stdin)[0]
values = {**cell, "framework": (cell["framework"] or {}).get("name")}
for option in ("toolkit", "version", "framework", "processor", "line"):
    if values[option]: print(f"--{option}={values[option]}")')
    [ "${#query[@]}" -gt 0 ] || exit 5 # rlimages has printed the reason
    address=$(rlimages uri "${query[@]}" --account "$account" ${region:+--region "$region"})
    registry=${address%%/*}
fi
rlimages publish --select "$pattern" ${target:+--target "$target"} ${registry:+--to "$registry"} ${rest[@]+"${rest[@]}"}
