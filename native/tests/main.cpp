#include <cstdio>

#include "check.h"
#include "secateur/kernels.h"

int main() {
    for (const Test& test : tests()) {
        const int before = failures();
        test.run();
        std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", test.name);
    }
    std::printf("%zu tests, instruction sets up to %s: %s\n", tests().size(), secateur::kernels().name,
                failures() == 0 ? "all well" : "something is wrong");
    return failures() == 0 ? 0 : 1;
}
