// Functions of all floats: how far each is from the same in double precision, at most.
//
// That is |found - exact| <= relative * |exact| + absolute for every finite number; infinities and NaN come out just
// where they should. Numbers below 2^-126 count as zero on x86-64, going in and coming out.
#include <cstdio>
#include <cstring>

#include "engine_numbers.h"

using namespace testing;

namespace {

using secateur::engine::Function;

struct Bound {
    Function function;
    float alpha, beta;
    double relative, absolute;
};

const Bound BOUNDS[] = {
    {Function::none, 0, 0, 0, 0},
    {Function::relu, 0, 0, 0, 0},
    {Function::clamp, -0.5f, 6, 0, 0},
    {Function::leaky_relu, 0.1f, 0, 8e-8, 0},
    {Function::elu, 0.75f, 0, 1e-7, 6e-8},
    {Function::sigmoid, 0, 0, 2e-7, 0},
    {Function::tanh, 0, 0, 2e-7, 0},
    {Function::silu, 0, 0, 3e-7, 2e-36},
    {Function::gelu, 0, 0, 3e-7, 1e-6},
    {Function::gelu_tanh, 0, 0, 3e-7, 5e-7},
    {Function::hardswish, 0, 0, 3e-7, 1e-38},
    {Function::hardsigmoid, 0, 0, 2e-7, 0},
    {Function::softplus, 1, 20, 3e-7, 6e-8},
    {Function::softplus, 2.5f, 8, 3e-7, 6e-8},
    {Function::exp, 0, 0, 1e-7, 0},
    {Function::log, 0, 0, 3e-7, 0},
    {Function::sqrt, 0, 0, 6e-8, 0},
    {Function::reciprocal, 0, 0, 6e-8, 0},
    {Function::absolute, 0, 0, 0, 0},
    {Function::negative, 0, 0, 0, 0},
    {Function::square, 0, 0, 6e-8, 0},
    {Function::rsqrt, 0, 0, 1.3e-7, 0},
    {Function::sin, 0, 0, 1.2e-7, 0},
    {Function::cos, 0, 0, 1.2e-7, 0},
    {Function::erf, 0, 0, 4e-7, 1e-36},
    {Function::floor, 0, 0, 0, 0},
    {Function::power, 3, 0, 1.2e-7, 0},
    {Function::power, 0.5f, 0, 1.2e-7, 0},
    {Function::power, -1.5f, 0, 1.2e-7, 0},
};
constexpr double LEAST = 1.17549435e-38, MOST = 3.4028234e38;

// Every 9973rd pattern of both signs, both infinities, NaN, the edges of normal numbers, and many where most happens.
std::vector<float> wide_floats() {
    std::vector<float> made;
    for (std::uint32_t pattern = 0; pattern < 0x7f800000u; pattern += 9973) {
        float x;
        std::memcpy(&x, &pattern, sizeof x);
        made.insert(made.end(), {x, -x});
    }
    for (int i = -30000; i <= 30000; ++i) {
        made.insert(made.end(), {static_cast<float>(i) * 4e-4f, static_cast<float>(i) * 3.7e-3f});
    }
    made.insert(made.end(), {HUGE_VALF, -HUGE_VALF, NAN, 0.f, -0.f, 88.72283f, 88.7229f, -87.33654f, 3.4028235e38f});
    made.resize((made.size() + 63) / 64 * 64, 1.f);
    return made;
}

double error(const Bound& bound, double exact, float found) {
    const auto wide = static_cast<double>(found);
    if (std::isnan(exact) || std::isnan(found)) return std::isnan(exact) && std::isnan(found) ? 0 : HUGE_VAL;
    if (std::isinf(exact) && std::isinf(found)) return exact == wide ? 0 : HUGE_VAL;
    // So near the largest number that rounding decides.
    if (std::fabs(exact) > MOST * (1 - 1e-6) && std::fabs(wide) > MOST * (1 - 1e-6)) return 0;
    const double tiny = std::fabs(exact) < 1.01 * LEAST ? 1.01 * LEAST : 0;
    return std::fabs(exact - wide) - bound.relative * std::fabs(exact) - bound.absolute - tiny;
}

}  // namespace

TEST(functions_are_as_near_as_is_said) {
    const std::vector<float> x = wide_floats();
    for (const Bound& bound : BOUNDS) {
        Applied applied;
        applied.function = static_cast<int>(bound.function);
        applied.alpha = bound.alpha;
        applied.beta = bound.beta;
        Doubles exact;
        for (const float each : x) {
            const bool tiny = std::fabs(static_cast<double>(each)) < LEAST;
            exact.push_back(
                activated(applied, tiny ? std::copysign(0.0, static_cast<double>(each)) : static_cast<double>(each)));
        }
        in_every_set([&](const std::string& kernels, std::size_t lanes) {
            Mapping call;
            call.a = call.to = Map{0, 1, x.size(), 1, x.size(), x.size() / lanes};
            call.activation = applied;
            const std::vector<float> found = carried_out(kernels, call, x, 1);
            std::size_t worst = 0;
            for (std::size_t i = 0; i < x.size(); ++i) {
                const bool itself = std::fabs(static_cast<double>(x[i])) < LEAST &&
                                    error(bound, activated(applied, static_cast<double>(x[i])), found[i]) <= 0;
                if (!itself && error(bound, exact[i], found[i]) > error(bound, exact[worst], found[worst])) {
                    worst = i;
                }
            }
            const bool near = error(bound, exact[worst], found[worst]) <= 0;
            CHECK(near);
            if (!near) {
                std::printf("  function %d on %s: of %.9g it is %.9g, not %.9g\n", applied.function, kernels.c_str(),
                            static_cast<double>(x[worst]), static_cast<double>(found[worst]), exact[worst]);
            }
        });
    }
}

TEST(every_function_has_a_bound) {
    std::vector<bool> seen(secateur::engine::FUNCTIONS, false);
    for (const Bound& bound : BOUNDS) seen[static_cast<std::size_t>(bound.function)] = true;
    for (const bool each : seen) CHECK(each);
}
