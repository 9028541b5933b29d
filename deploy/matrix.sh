# Sourced by deploy/test --matrix: the tests on each Python that is found, with each Django that it runs.
# Expects what deploy/test has set: root, pinned, pytest_arguments.

matrix_folder=$root/.cache/matrix
djangos=(5.2 6.0 newest)
# Unless others are named on the command line.
matrix_tests='tests/unit tests/contract tests/acceptance/test_torture.py'
wanted_pythons=(3.11 3.12 3.13 3.14)

# A line for each minor version from 3.11 on, "3.12 /path/to/python", ascending; of several the first: $PYTHON, PATH, pyenv.
find_pythons() {
    local candidate
    {
        printf '%s\n' ${PYTHON:+"$PYTHON"}
        type -aP python3 $(printf 'python%s\n' "${wanted_pythons[@]}") || true
        compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/*/bin/python" || true
    } | while read -r candidate; do
        "$candidate" - <<'PYTHON' 2>/dev/null || true
import sys
if sys.version_info >= (3, 11) and sys.version_info.releaselevel == "final":
    print("%d.%d" % sys.version_info[:2], sys.executable)
PYTHON
    done | awk '!seen[$1]++' | sort -V
}

# run_cell MINOR PYTHON DJANGO: tests with one pair; leaves its word for the table in $cell.
run_cell() {
    local minor=$1 python=$2 django=$3 venv log code requirement constraints=()
    venv=$matrix_folder/python$minor-django$django
    log=$venv.log
    case $django in
        newest) requirement=Django ;;
        *) requirement="Django==$django.*" ;;
    esac
    # All versions but Django's are pinned, so that a cell differs from its neighbour in one thing.
    if ((${#pinned[@]})); then
        grep -v '^Django==' "$root/constraints.txt" >"$matrix_folder/constraints.txt"
        constraints=(-c "$matrix_folder/constraints.txt")
    else
        venv=$venv-newest
    fi
    say "Python $minor, Django $django"
    if ! (make_venv "$python" "$venv" "${constraints[@]}" -e '.[all]' --group test "$requirement"); then
        cell='not installable'
        return
    fi
    code=0
    PATH=$venv/bin:$PATH CI=true pytest -n 3 --dist loadfile -o testpaths="$matrix_tests" "${pytest_arguments[@]}" 2>&1 |
        tee "$log" || code=${PIPESTATUS[0]}
    case $code in
        0) cell=passed ;;
        2 | 1[3-9]?) cell=interrupted ;; # pytest's own code, and those of a shell for signals
        *) cell=failed ;;
    esac
    if [[ $django == newest ]]; then cell+=" ($("$venv/bin/python" -m django --version))"; fi
}

# All cells, then the table; 1 if one of them is not as it should be.
run_matrix() {
    local minor python django cell code=0 found=() rows=() row
    mkdir -p "$matrix_folder"
    while read -r -u 3 minor python; do
        found+=("$minor")
        row=$(printf '%-8s' "$minor")
        for django in "${djangos[@]}"; do
            if [[ $minor == 3.11 && $django != 5.2 ]]; then
                say "Python $minor, Django $django: left out, Django 6.0 and later need Python 3.12"
                cell=-
            else
                run_cell "$minor" "$python" "$django" 3<&-
            fi
            [[ $cell == passed* || $cell == - ]] || code=1
            row+=$(printf '  %-17s' "$cell")
        done
        rows+=("$row")
    done 3< <(find_pythons)
    say 'Python × Django'
    printf '%-8s  %-17s  %-17s  %s\n' '' "${djangos[@]}"
    printf '%s\n' "${rows[@]}"
    for minor in "${wanted_pythons[@]}"; do
        [[ " ${found[*]} " == *" $minor "* ]] || printf 'Python %s was not found\n' "$minor"
    done
    return "$code"
}
