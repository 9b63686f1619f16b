// secateur.native._kernels: compiled networks.
#include "secateur/engine.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using secateur::engine::Applied;
using secateur::engine::Halo;
using secateur::engine::Map;
using secateur::engine::Place;
using secateur::engine::Program;
using secateur::engine::Span;
using secateur::engine::Sparse;
using secateur::engine::Tiling;
using secateur::engine::Window;

template <class T>
using Numbers = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Input = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Output = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

template <class T>
std::vector<T> kept(const Numbers<T>& numbers) {
    return std::vector<T>(numbers.data(), numbers.data() + numbers.size());
}

void run(const Program& program, const std::vector<Input>& inputs, const std::vector<Output>& outputs,
         const std::vector<std::size_t>& input_sizes, const std::vector<std::size_t>& output_sizes, std::size_t samples,
         unsigned threads, std::optional<nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>> seconds) {
    std::vector<const float*> from;
    std::vector<float*> to;
    if (inputs.size() != input_sizes.size() || outputs.size() != output_sizes.size()) {
        throw nb::value_error("as many arrays as the program has inputs and outputs are needed");
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].size() != samples * input_sizes[i]) throw nb::value_error("an input has another size");
        from.push_back(inputs[i].data());
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (outputs[i].size() != samples * output_sizes[i]) throw nb::value_error("an output has another size");
        to.push_back(outputs[i].data());
    }
    if (seconds && seconds->size() != program.size()) throw nb::value_error("there is a time for each step");
    double* const times = seconds ? seconds->data() : nullptr;
    const nb::gil_scoped_release release;
    program.run(from, to, samples, threads, times);
}

// A program and the sizes of its arrays, which a call is checked against.
struct Bound {
    std::vector<std::size_t> inputs, outputs;
    Program program;

    Bound(const std::string& kernels, std::size_t arena, const std::vector<std::size_t>& in,
          const std::vector<std::size_t>& out, bool samples_in_lanes)
        : inputs(in), outputs(out), program(kernels, arena, in, out, samples_in_lanes) {}
};

Halo halo_of(std::size_t offset, const Numbers<std::uint32_t>& fills, const Numbers<std::int32_t>& permutations,
             float outside) {
    Halo halo;
    halo.offset = offset;
    halo.fills = kept(fills);
    halo.permutations = kept(permutations);
    halo.outside = outside;
    return halo;
}

Sparse sparse_of(const Numbers<std::uint32_t>& starts, const Numbers<std::uint32_t>& columns,
                 const Numbers<float>& values) {
    return Sparse{kept(starts), kept(columns), kept(values)};
}

void bind_values(nb::module_& m) {
    using Size = std::size_t;
    nb::class_<Map>(m, "Map").def(
        "__init__",
        [](Map* map, Size offset, Size channels, Size channel, Size rows, Size row, Size cols) {
            new (map) Map{offset, channels, channel, rows, row, cols};
        },
        "offset"_a, "channels"_a, "channel"_a, "rows"_a, "row"_a, "cols"_a);
    nb::class_<Span>(m, "Span").def(
        "__init__", [](Span* span, Size offset, Size size) { new (span) Span{offset, size}; }, "offset"_a, "size"_a);
    nb::class_<Place>(m, "Place")
        .def(
            "__init__", [](Place* place, int port, Size offset, Size step) { new (place) Place{port, offset, step}; },
            "port"_a, "offset"_a, "step"_a);
    nb::class_<Applied>(m, "Applied")
        .def(
            "__init__",
            [](Applied* applied, int function, float alpha, float beta) {
                new (applied) Applied{function, alpha, beta};
            },
            "function"_a = 0, "alpha"_a = 0.f, "beta"_a = 0.f);
    nb::class_<Window>(m, "Window")
        .def(
            "__init__",
            [](Window* window, std::vector<Size> corner, std::vector<Size> stride, std::vector<Size> size,
               std::vector<Size> dilation) {
                if (corner.size() != 2 || stride.size() != 2 || size.size() != 2 || dilation.size() != 2) {
                    throw nb::value_error("a window has two axes");
                }
                new (window)
                    Window{corner[0], corner[1], stride[0], stride[1], size[0], size[1], dilation[0], dilation[1]};
            },
            "corner"_a, "stride"_a, "size"_a, "dilation"_a);
    nb::class_<Tiling>(m, "Tiling")
        .def(
            "__init__",
            [](Tiling* tiling, Size rows, Size cols, Size outputs, Size block) {
                new (tiling) Tiling{rows, cols, outputs, block};
            },
            "rows"_a, "cols"_a, "outputs"_a, "block"_a);
    nb::class_<Halo>(m, "Halo").def(
        "__init__",
        [](Halo* halo, Size offset, const Numbers<std::uint32_t>& fills, const Numbers<std::int32_t>& permutations,
           float outside) { new (halo) Halo(halo_of(offset, fills, permutations, outside)); },
        "offset"_a, "fills"_a, "permutations"_a, "outside"_a);
    nb::class_<Sparse>(m, "Sparse")
        .def(
            "__init__",
            [](Sparse* sparse, const Numbers<std::uint32_t>& starts, const Numbers<std::uint32_t>& columns,
               const Numbers<float>& values) { new (sparse) Sparse(sparse_of(starts, columns, values)); },
            "starts"_a, "columns"_a, "values"_a);
}

void bind_maps(nb::class_<Bound>& program) {
    program
        .def(
            "convolve",
            [](Bound& own, const Map& from, const Map& to, const Window& window, std::size_t groups,
               const Sparse& weights, const Numbers<float>& bias, std::optional<Map> residual,
               const Applied& activation, const Halo& halo, const Tiling& tiling, int pooling) {
                own.program.convolve(from, to, window, groups, weights, kept(bias), residual ? &*residual : nullptr,
                                     activation, halo, tiling, pooling);
            },
            "source"_a, "target"_a, "window"_a, "groups"_a, "weights"_a, "bias"_a, "residual"_a.none(), "activation"_a,
            "halo"_a, "tiling"_a, "pooling"_a = 0)
        .def(
            "filter",
            [](Bound& own, const Map& from, const Map& to, const std::vector<std::size_t>& corner,
               const Sparse& weights, const Numbers<float>& bias, std::optional<Map> residual,
               const Applied& activation, const Halo& halo, const Span& scratch) {
                if (corner.size() != 2) throw nb::value_error("a corner has two axes");
                own.program.filter(from, to, corner[0], corner[1], weights, kept(bias), residual ? &*residual : nullptr,
                                   activation, halo, scratch);
            },
            "source"_a, "target"_a, "corner"_a, "weights"_a, "bias"_a, "residual"_a.none(), "activation"_a, "halo"_a,
            "scratch"_a)
        .def(
            "pool",
            [](Bound& own, const Map& from, const Map& to, const Window& window, bool maximum,
               const Numbers<float>& scales,
               const Halo& halo) { own.program.pool(from, to, window, maximum, kept(scales), halo); },
            "source"_a, "target"_a, "window"_a, "maximum"_a, "scales"_a, "halo"_a)
        .def(
            "map",
            [](Bound& own, const Map& a, const Map& to, const Numbers<float>& scale, const Numbers<float>& shift,
               const Applied& activation,
               const Halo& halo) { own.program.map(a, to, kept(scale), kept(shift), activation, halo); },
            "source"_a, "target"_a, "scale"_a, "shift"_a, "activation"_a, "halo"_a)
        .def(
            "combine",
            [](Bound& own, int operation, const Map& a, const Map& b, const Map& to, bool swapped,
               const Applied& activation,
               const Halo& halo) { own.program.combine(operation, a, b, to, swapped, activation, halo); },
            "operation"_a, "a"_a, "b"_a, "target"_a, "swapped"_a, "activation"_a, "halo"_a)
        .def(
            "combine_channels",
            [](Bound& own, int operation, const Map& a, const Span& b, const Map& to, bool swapped,
               const Applied& activation,
               const Halo& halo) { own.program.combine_channels(operation, a, b, to, swapped, activation, halo); },
            "operation"_a, "a"_a, "b"_a, "target"_a, "swapped"_a, "activation"_a, "halo"_a);
}

void bind_others(nb::class_<Bound>& program) {
    program
        .def(
            "constant",
            [](Bound& own, std::size_t offset, const Numbers<float>& values) {
                own.program.constant(offset, kept(values));
            },
            "offset"_a, "values"_a)
        .def(
            "gather",
            [](Bound& own, const Place& from, const Place& to, std::size_t channels, const Numbers<std::int32_t>& table,
               float outside) { own.program.gather(from, to, channels, kept(table), outside); },
            "source"_a, "target"_a, "channels"_a, "table"_a, "outside"_a = 0.f)
        .def(
            "read_lanes",
            [](Bound& own, int input, std::size_t offset, const Numbers<std::int32_t>& table, float outside) {
                own.program.read_lanes(input, offset, kept(table), outside);
            },
            "input"_a, "offset"_a, "table"_a, "outside"_a = 0.f)
        .def(
            "write_lanes",
            [](Bound& own, std::size_t offset, int output, const Numbers<std::int32_t>& table) {
                own.program.write_lanes(offset, output, kept(table));
            },
            "offset"_a, "output"_a, "table"_a)
        .def(
            "reduce",
            [](Bound& own, const Map& from, const Span& to, bool maximum, float scale,
               const Numbers<std::uint8_t>& outside) { own.program.reduce(from, to, maximum, scale, kept(outside)); },
            "source"_a, "target"_a, "maximum"_a, "scale"_a, "outside"_a)
        .def(
            "reduce_lanes",
            [](Bound& own, const Map& from, const Span& to, bool maximum, float scale) {
                own.program.reduce_lanes(from, to, maximum, scale);
            },
            "source"_a, "target"_a, "maximum"_a, "scale"_a)
        .def(
            "multiply",
            [](Bound& own, const Span& from, const Span& to, const Sparse& weights, const Numbers<float>& bias,
               std::optional<Span> residual, const Applied& activation, bool dense) {
                own.program.multiply(from, to, weights, kept(bias), residual ? &*residual : nullptr, activation, dense);
            },
            "source"_a, "target"_a, "weights"_a, "bias"_a, "residual"_a.none(), "activation"_a, "dense"_a);
}

void bind_axes(nb::class_<Bound>& program) {
    program
        .def(
            "along",
            [](Bound& own, const Span& from, const Span& to, const std::vector<std::size_t>& sizes, int how,
               float scale, bool centred, const Numbers<float>& weight, const Numbers<float>& bias) {
                if (sizes.size() != 3) throw nb::value_error("there is an outer, a middle and an inner size");
                own.program.along(from, to, sizes[0], sizes[1], sizes[2], how, scale, centred, kept(weight),
                                  kept(bias));
            },
            "source"_a, "target"_a, "sizes"_a, "how"_a, "scale"_a, "centred"_a, "weight"_a, "bias"_a)
        .def(
            "product",
            [](Bound& own, const Span& a, const Span& b, const Span& to, const std::vector<std::size_t>& sizes,
               bool transposed, float scale) { own.program.product(a, b, to, sizes, transposed, scale); },
            "a"_a, "b"_a, "target"_a, "sizes"_a, "transposed"_a, "scale"_a)
        .def(
            "lookup",
            [](Bound& own, const Span& from, const Span& to, std::size_t rows, std::size_t columns,
               const Numbers<float>& table) { own.program.lookup(from, to, rows, columns, kept(table)); },
            "source"_a, "target"_a, "rows"_a, "columns"_a, "table"_a);
}

}  // namespace

void bind_engine(nb::module_& m) {
    bind_values(m);
    m.def(
        "peak",
        [](const std::string& kernels) {
            const nb::gil_scoped_release release;
            return 1e-9 * secateur::engine::peak(kernels);
        },
        "kernels"_a);
    nb::class_<Bound> program(m, "Program");
    program
        .def(nb::init<const std::string&, std::size_t, const std::vector<std::size_t>&, const std::vector<std::size_t>&,
                      bool>(),
             "kernels"_a, "arena"_a, "inputs"_a, "outputs"_a, "samples_in_lanes"_a)
        .def_prop_ro("lanes", [](const Bound& own) { return own.program.lanes(); })
        .def_prop_ro("kernels", [](const Bound& own) { return std::string(own.program.kernels()); })
        .def("__len__", [](const Bound& own) { return own.program.size(); })
        .def(
            "run",
            [](const Bound& own, const std::vector<Input>& inputs, const std::vector<Output>& outputs,
               std::size_t samples, unsigned threads,
               std::optional<nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>> seconds) {
                run(own.program, inputs, outputs, own.inputs, own.outputs, samples, threads, seconds);
            },
            "inputs"_a, "outputs"_a, "samples"_a, "threads"_a = 1, "seconds"_a.none() = nb::none());
    bind_maps(program);
    bind_others(program);
    bind_axes(program);
}
