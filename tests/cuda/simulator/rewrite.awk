# Turns a preprocessed kernel source into C++: awk -v unit=NAME -f rewrite.awk IN > OUT
#
# - `extern "C" __global__` becomes `static`, so that kernels of several files can have one name;
# - shared variables become static ones in a section that fibers.cpp spoils before each block, dynamic ones pointers to its buffer;
# - all of it goes into a namespace without a name, as on the GPU each module is a world of its own;
# - every kernel that is not a template is registered under its name.

{ text = text $0 "\n" }

END {
    section = "static __attribute__((section(\"simulator_shared\")))"
    while (match(text, /extern[ \n]+__shared__[^;]*;/)) {
        declaration = substr(text, RSTART, RLENGTH)
        before = substr(text, 1, RSTART - 1)
        after = substr(text, RSTART + RLENGTH)
        sub(/extern[ \n]+__shared__/, "", declaration)
        sub(/(alignas|__attribute__)[ ]*\([^)]*\)+/, "", declaration)
        if (!match(declaration, /[A-Za-z_][A-Za-z_0-9]*[ ]*\[[ ]*\][ ]*;/)) {
            print unit ": this dynamic shared memory cannot be read: " declaration > "/dev/stderr"
            exit 1
        }
        type = substr(declaration, 1, RSTART - 1)
        name = substr(declaration, RSTART)
        sub(/[ ]*\[.*/, "", name)
        text = before type "*" name " = reinterpret_cast<" type "*>(simulator_dynamic_shared);" after
    }
    gsub(/__shared__/, section, text)

    count = split(text, part, /__global__/)
    registrations = ""
    for (i = 2; i <= count; i++) {
        sub(/(extern[ ]+"C"|static)[ \n]*$/, "", part[i - 1])
        if (!match(part[i], /^[ \n]*(static[ \n]+)?void[ \n]+[A-Za-z_][A-Za-z_0-9]*[ \n]*\(/)) {
            print unit ": the kernel's name cannot be read: " substr(part[i], 1, 80) > "/dev/stderr"
            exit 1
        }
        name = substr(part[i], RSTART, RLENGTH)
        sub(/^[ \n]*(static[ \n]+)?void[ \n]+/, "", name)
        sub(/[ \n]*\($/, "", name)
        sub(/^[ \n]*static/, "", part[i])
        is_template = part[i - 1] ~ /template[ ]*<[^;{}]*>[ \n]*$/
        if (!is_template && !(name in seen)) {
            seen[name] = 1
            registrations = registrations "static simulator::Registered simulator_registered_" name "(\"" unit "\", \"" name "\", simulator::Trampoline<&" name ">::run);\n"
        }
    }
    if (!sub(/#pragma simulator source/, "namespace {", part[1])) {
        print unit ": cuda_on_host.h was not included" > "/dev/stderr"
        exit 1
    }
    for (i = 1; i <= count; i++)
        printf "%s%s", (i > 1 ? "static" : ""), part[i]
    print registrations "} // namespace"
}
