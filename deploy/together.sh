# Sourced by deploy/test, after deploy/venv.sh.

# together COMMAND...: runs the commands at the same time, as each uses one core, and names them in turn: with the last line of
# what it said where it passed. One that fails is shown in full, the others are ended, and its exit code is returned.
together() (
    said=$(mktemp -d) pids=()
    # shellcheck disable=SC2046
    trap 'kill $(jobs -pr) 2>/dev/null || true; wait; rm -rf "$said"' EXIT
    for command in "$@"; do
        $command >"$said/${#pids[@]}" 2>&1 &
        pids+=($!)
    done
    for number in "${!pids[@]}"; do
        say "${*:number+1:1}"
        wait "${pids[number]}" || {
            code=$?
            cat "$said/$number"
            exit "$code"
        }
        tail -n 1 "$said/$number"
    done
)
