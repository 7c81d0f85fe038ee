# Prints a stub for every function that C headers name with a prefix: awk -v prefix=cu -v status=801 -f stubs.awk HEADER... > OUT.cpp
#
# Stubs are weak: where a source file defines the function, the linker takes that one. A stub prints its name and returns `status`.

function add(name) {
    if (name ~ ("^" prefix "[A-Z]") || (prefix == "cublas" && name ~ /^cublas/))
        names[name] = 1
}

{
    line = $0
    while (match(line, /[A-Za-z_][A-Za-z_0-9]*[ ]*\(/)) {
        name = substr(line, RSTART, RLENGTH)
        sub(/[ ]*\($/, "", name)
        add(name)
        line = substr(line, RSTART + RLENGTH)
    }
}

# cuda.h and cublas_v2.h rename functions to their newer versions; `__CUDA_API_PTSZ(name)` was found above.
/^[ \t]*#[ \t]*define[ \t]/ { add($2); add($3) }

END {
    print "extern \"C\" {"
    print "int simulator_lacks(const char *name, int status);"
    for (name in names) {
        versions = name
        if (prefix == "cu" && name !~ /_v[0-9]$/)
            versions = name " " name "_v2 " name "_v3 " name "_v4"
        count = split(versions, version, " ")
        for (i = 1; i <= count; i++)
            if (!(version[i] in done)) {
                done[version[i]] = 1
                printf "__attribute__((weak)) int %s() { return simulator_lacks(\"%s\", %d); }\n", version[i], version[i], status
            }
    }
    print "}"
}
