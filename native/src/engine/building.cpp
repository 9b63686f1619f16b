// All steps but convolutions.
#include "building.h"

#include <limits>
#include <numeric>

namespace secateur {
namespace engine {
namespace {

struct Pooling final : Step {
    PoolStep step;
    std::vector<std::size_t> taps;
    std::vector<float> scales;
    KeptHalo halo;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.pool(step, pass.arena, part, parts);
    }
};

struct Mapping final : Step {
    MapStep step;
    std::vector<float> scale, shift;
    KeptHalo halo;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.map(step, pass.arena, part, parts);
    }
};

struct Reduction final : Step {
    ReduceStep step;
    std::vector<float> outside;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.reduce(step, pass.arena, part, parts);
    }
};

struct Gathering final : Step {
    GatherStep step;
    std::vector<std::int32_t> table;
    int from = -1, to = -1;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        const float* const source = from < 0 ? pass.arena : pass.inputs[static_cast<std::size_t>(from)];
        float* const target = to < 0 ? pass.arena : pass.outputs[static_cast<std::size_t>(to)];
        loops.gather(step, source, target, part, parts);
    }
};

struct Transposing final : Step {
    LanesStep step;
    std::vector<std::int32_t> table;
    std::size_t port = 0;
    bool in = true;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        if (in) {
            loops.into_lanes(step, pass.inputs[port], pass.samples, pass.arena, part, parts);
        } else {
            loops.from_lanes(step, pass.arena, pass.samples, pass.outputs[port], part, parts);
        }
    }
};

struct Multiplication final : Step {
    MultiplyStep step;
    std::vector<std::uint32_t> starts, order, wide;
    std::vector<std::uint16_t> indices;
    std::vector<float> values, bias;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.multiply(step, pass.arena, part, parts);
    }
};

struct Alongside final : Step {
    AlongStep step;
    std::vector<float> weight, bias;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.along(step, pass.arena, part, parts);
    }
};

struct Product final : Step {
    ProductStep step;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        loops.product(step, pass.arena, part, parts);
    }
};

struct Lookup final : Step {
    LookupStep step;
    std::vector<float> table;

    void run(const Loops& loops, const Pass& pass, std::size_t part, std::size_t parts) const override {
        if (!loops.lookup(step, pass.samples, pass.arena, part, parts)) pass.lost->store(true);
    }
};

// The least and the greatest number of a table that are no -1; {0, -1} if there are none.
std::pair<std::int64_t, std::int64_t> span_of(const std::vector<std::int32_t>& table) {
    std::int64_t least = 0, most = -1;
    for (const std::int32_t each : table) {
        require(each >= -1, "a table goes below 0");
        most = std::max<std::int64_t>(most, each);
    }
    return {least, most};
}

bool same_shape(const Map& a, const Map& b) { return a.channels == b.channels && a.rows == b.rows && a.cols == b.cols; }

// Rows with about as many weights as each other go in one slice, as all lanes take as long as the longest.
void slice(Multiplication& made, const Sparse& weights, std::size_t lanes, bool dense) {
    MultiplyStep& step = made.step;
    made.order.resize(step.rows);
    std::iota(made.order.begin(), made.order.end(), 0u);
    const auto length = [&](std::size_t row) { return weights.starts[row + 1] - weights.starts[row]; };
    if (!dense) {
        std::stable_sort(made.order.begin(), made.order.end(),
                         [&](std::uint32_t a, std::uint32_t b) { return length(a) > length(b); });
    }
    made.order.resize(step.slices * lanes, static_cast<std::uint32_t>(step.rows));
    made.starts.push_back(0);
    for (std::size_t s = 0; s < step.slices; ++s) {
        const std::uint32_t* const rows = made.order.data() + s * lanes;
        const std::size_t before = made.starts.back(), steps = dense ? step.columns : length(rows[0]);
        require(before + steps <= std::numeric_limits<std::uint32_t>::max(), "there are too many weights");
        made.starts.push_back(static_cast<std::uint32_t>(before + steps));
        made.values.resize((before + steps) * lanes, 0.f);
        if (!dense) made.wide.resize((before + steps) * lanes, 0u);
        for (std::size_t lane = 0; lane < lanes && rows[lane] < step.rows; ++lane) {
            const std::size_t first = weights.starts[rows[lane]];
            for (std::size_t i = 0; i < length(rows[lane]); ++i) {
                const std::uint32_t column = weights.columns[first + i];
                const std::size_t place = (before + (dense ? column : i)) * lanes + lane;
                made.values[place] = weights.values[first + i];
                if (!dense) made.wide[place] = column;
            }
        }
    }
}

}  // namespace

void Program::gather(const Place& from, const Place& to, std::size_t channels, const std::vector<std::int32_t>& table,
                     float outside) {
    const auto size_of = [&](const Place& place, const std::vector<std::size_t>& ports) {
        require(place.port >= -1 && place.port < static_cast<int>(ports.size()), "there is no such input or output");
        return place.port < 0 ? own_->arena_size : ports[static_cast<std::size_t>(place.port)];
    };
    const auto most = static_cast<std::size_t>(span_of(table).second + 1);
    require(channels > 0 && !table.empty(), "nothing is gathered");
    require(channels == 1 || to.step >= table.size(), "the channels of what is gathered overlap");
    require(end_of(from.offset, channels, from.step, most) <= size_of(from, own_->inputs), "a table reads too far");
    require(end_of(to.offset, channels, to.step, table.size()) <= size_of(to, own_->outputs), "a table writes too far");
    auto made = std::make_unique<Gathering>();
    made->table = table;
    made->from = from.port;
    made->to = to.port;
    GatherStep& step = made->step;
    step.source = from.offset;
    step.source_step = from.step;
    step.target = to.offset;
    step.target_step = to.step;
    step.channels = channels;
    step.count = table.size();
    step.table = made->table.data();
    step.outside = outside;
    own_->steps.push_back(std::move(made));
}

void Program::read_lanes(int input, std::size_t offset, const std::vector<std::int32_t>& table, float outside) {
    require(own_->samples_in_lanes, "the program takes one sample a pass");
    require(input >= 0 && input < static_cast<int>(own_->inputs.size()), "there is no such input");
    auto made = std::make_unique<Transposing>();
    made->table = table;
    made->port = static_cast<std::size_t>(input);
    LanesStep& step = made->step;
    step.sample = own_->inputs[made->port];
    require(static_cast<std::size_t>(span_of(table).second + 1) <= step.sample, "a table reads too far");
    require(offset % lanes() == 0, "a table does not begin with a vector");
    require(sum(offset, engine::product(table.size(), lanes())) <= own_->arena_size, "a table writes too far");
    step.arena = offset;
    step.count = table.size();
    step.table = made->table.data();
    step.outside = outside;
    own_->steps.push_back(std::move(made));
}

void Program::write_lanes(std::size_t offset, int output, const std::vector<std::int32_t>& table) {
    require(own_->samples_in_lanes, "the program takes one sample a pass");
    require(output >= 0 && output < static_cast<int>(own_->outputs.size()), "there is no such output");
    auto made = std::make_unique<Transposing>();
    made->in = false;
    made->table = table;
    made->port = static_cast<std::size_t>(output);
    LanesStep& step = made->step;
    step.sample = own_->outputs[made->port];
    for (const std::int32_t each : table) require(each >= 0, "a table goes below 0");
    require(table.size() <= step.sample, "a table writes too far");
    require(offset % lanes() == 0, "a table does not begin with a vector");
    const auto vectors = static_cast<std::size_t>(span_of(table).second + 1);
    require(sum(offset, engine::product(vectors, lanes())) <= own_->arena_size, "a table reads too far");
    step.arena = offset;
    step.count = table.size();
    step.table = made->table.data();
    own_->steps.push_back(std::move(made));
}

void Program::pool(const Map& from, const Map& to, const Window& window, bool maximum, const std::vector<float>& scales,
                   const Halo& halo) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    bounds.check(halo, to);
    Bounds::check(window, from, to);
    require(from.channels == to.channels, "pooling does not change the channels");
    require(maximum ? scales.empty() : scales.size() == 1 || scales.size() == to.rows * to.cols * lanes(),
            "there is one scale, or one for each float of a channel");
    auto made = std::make_unique<Pooling>();
    made->halo = KeptHalo(halo, lanes());
    made->scales = scales;
    PoolStep& step = made->step;
    step.source = region(from);
    step.target = region(to);
    step.source.offset += window.top * from.row + window.left * lanes();
    for (std::size_t y = 0; y < window.height; ++y) {
        for (std::size_t x = 0; x < window.width; ++x) {
            made->taps.push_back((y * window.dilation_rows * from.row + x * window.dilation_cols * lanes()) *
                                 sizeof(float));
        }
    }
    step.taps = made->taps.data();
    step.tap_count = made->taps.size();
    step.step_bytes = window.stride_cols * lanes() * sizeof(float);
    step.row_bytes = window.stride_rows * from.row * sizeof(float);
    step.maximum = maximum;
    if (scales.size() == 1) step.scale = scales[0];
    if (scales.size() > 1) step.scales = made->scales.data();
    step.fills = made->halo.fills();
    own_->steps.push_back(std::move(made));
}

void Program::map(const Map& a, const Map& to, const std::vector<float>& scale, const std::vector<float>& shift,
                  const Applied& activation, const Halo& halo) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(a);
    bounds.check(to);
    bounds.check(halo, to);
    engine::check(activation);
    require(same_shape(a, to), "a map has another shape than its result");
    require(scale.empty() || scale.size() == to.channels, "there is a scale for each channel, or none");
    require(shift.empty() || shift.size() == to.channels, "there is a shift for each channel, or none");
    auto made = std::make_unique<Mapping>();
    made->halo = KeptHalo(halo, lanes());
    made->scale = scale;
    made->shift = shift;
    MapStep& step = made->step;
    step.a = region(a);
    step.to = region(to);
    if (!scale.empty()) step.scale = made->scale.data();
    if (!shift.empty()) step.shift = made->shift.data();
    step.activation = function(activation);
    step.fills = made->halo.fills();
    own_->steps.push_back(std::move(made));
}

void Program::combine(int operation, const Map& a, const Map& b, const Map& to, bool swapped, const Applied& activation,
                      const Halo& halo) {
    const Bounds bounds{own_->arena_size, lanes()};
    require(operation >= 0 && operation < OPERATIONS, "there is no such operation");
    bounds.check(b);
    const bool same = same_shape(b, to);
    require(same || (b.channels == to.channels && b.rows == 1 && b.cols == 1), "operands have different shapes");
    map(a, to, {}, {}, activation, halo);
    auto& step = static_cast<Mapping&>(*own_->steps.back()).step;
    step.other = same ? Other::vectors : Other::channel_vectors;
    step.operation = static_cast<Operation>(operation);
    step.b = region(b);
    step.swapped = swapped;
}

void Program::combine_channels(int operation, const Map& a, const Span& b, const Map& to, bool swapped,
                               const Applied& activation, const Halo& halo) {
    const Bounds bounds{own_->arena_size, lanes()};
    require(operation >= 0 && operation < OPERATIONS, "there is no such operation");
    bounds.check(b);
    require(b.size == to.channels, "there is one number for each channel");
    map(a, to, {}, {}, activation, halo);
    auto& step = static_cast<Mapping&>(*own_->steps.back()).step;
    step.other = Other::channel_floats;
    step.operation = static_cast<Operation>(operation);
    step.b.offset = b.offset;
    step.b.channel = 1;
    step.swapped = swapped;
}

void Program::reduce(const Map& from, const Span& to, bool maximum, float scale,
                     const std::vector<std::uint8_t>& outside) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    require(to.size == from.channels, "there is one number for each channel");
    require(outside.empty() || outside.size() == from.rows * from.cols * lanes(), "there is a flag for each float");
    auto made = std::make_unique<Reduction>();
    for (const std::uint8_t flag : outside) made->outside.push_back(flag != 0 ? 1.f : 0.f);
    ReduceStep& step = made->step;
    step.source = region(from);
    step.target = to.offset;
    step.maximum = maximum;
    step.scale = scale;
    if (!outside.empty()) step.outside = made->outside.data();
    own_->steps.push_back(std::move(made));
}

void Program::reduce_lanes(const Map& from, const Span& to, bool maximum, float scale) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    require(to.offset % lanes() == 0 && to.size == from.channels * lanes(), "there is one vector for each channel");
    auto made = std::make_unique<Reduction>();
    ReduceStep& step = made->step;
    step.source = region(from);
    step.target = to.offset;
    step.maximum = maximum;
    step.lanes = true;
    step.scale = scale;
    own_->steps.push_back(std::move(made));
}

void Program::multiply(const Span& from, const Span& to, const Sparse& weights, const std::vector<float>& bias,
                       const Span* residual, const Applied& activation, bool dense) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    engine::check(activation);
    engine::check(weights, to.size, from.size);
    require(bias.empty() || bias.size() == to.size, "a bias needs a number for each row");
    require(from.size <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()),
            "there are too many columns");
    auto made = std::make_unique<Multiplication>();
    MultiplyStep& step = made->step;
    if (residual != nullptr) {
        bounds.check(*residual);
        require(residual->size == to.size, "a residual has another size");
        step.has_residual = true;
        step.residual = residual->offset;
    }
    step.source = from.offset;
    step.target = to.offset;
    step.rows = to.size;
    step.columns = from.size;
    step.slices = (to.size + lanes() - 1) / lanes();
    slice(*made, weights, lanes(), dense);
    if (!dense && from.size <= std::size_t{1} << 16) {
        made->indices.assign(made->wide.begin(), made->wide.end());
        made->wide.clear();
    }
    for (const std::uint32_t row : made->order) made->bias.push_back(bias.empty() || row >= to.size ? 0.f : bias[row]);
    step.starts = made->starts.data();
    if (!dense) {
        step.indices = made->indices.empty() ? nullptr : made->indices.data();
        step.wide = made->wide.empty() ? nullptr : made->wide.data();
        static const std::uint16_t none = 0;
        if (step.indices == nullptr && step.wide == nullptr) step.indices = &none;  // all rows are empty
    }
    step.values = made->values.data();
    step.order = made->order.data();
    step.bias = made->bias.data();
    step.activation = function(activation);
    own_->steps.push_back(std::move(made));
}

void Program::along(const Span& from, const Span& to, std::size_t outer, std::size_t count, std::size_t inner, int how,
                    float scale, bool centred, const std::vector<float>& weight, const std::vector<float>& bias) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    require(how >= 0 && how < ALONG, "there is no such way along an axis");
    const bool reduces = how < static_cast<int>(Along::softmax);
    const std::size_t lines = engine::product(outer, inner);
    require(count > 0 && from.size == engine::product(lines, count), "an array has another size");
    require(to.size == (reduces ? lines : from.size), "an array has another size");
    require(weight.empty() || weight.size() == count, "there is a weight for each place, or none");
    require(bias.empty() || bias.size() == count, "there is a bias for each place, or none");
    auto made = std::make_unique<Alongside>();
    made->weight = weight;
    made->bias = bias;
    AlongStep& step = made->step;
    step.source = from.offset;
    step.target = to.offset;
    step.outer = outer;
    step.count = count;
    step.inner = inner;
    step.how = static_cast<Along>(how);
    step.scale = scale;
    step.centred = centred;
    if (!weight.empty()) step.weight = made->weight.data();
    if (!bias.empty()) step.bias = made->bias.data();
    own_->steps.push_back(std::move(made));
}

void Program::product(const Span& a, const Span& b, const Span& to, const std::vector<std::size_t>& sizes,
                      bool transposed, float scale) {
    const Bounds bounds{own_->arena_size, lanes()};
    for (const Span* each : {&a, &b, &to}) bounds.check(*each);
    require(sizes.size() == 4, "a product has a batch, rows, a depth and columns");
    const std::size_t width = own_->samples_in_lanes ? lanes() : 1;
    const auto floats = [&](std::size_t one, std::size_t two) {
        return engine::product(engine::product(sizes[0], width), engine::product(one, two));
    };
    require(a.size == floats(sizes[1], sizes[2]) && b.size == floats(sizes[2], sizes[3]) &&
                to.size == floats(sizes[1], sizes[3]),
            "an array has another size");
    require(width == 1 || (a.offset % width == 0 && b.offset % width == 0 && to.offset % width == 0),
            "an array does not begin with a vector");
    auto made = std::make_unique<Product>();
    ProductStep& step = made->step;
    step.a = a.offset;
    step.b = b.offset;
    step.target = to.offset;
    step.batch = sizes[0];
    step.rows = sizes[1];
    step.depth = sizes[2];
    step.columns = sizes[3];
    step.transposed = transposed;
    step.cells = own_->samples_in_lanes;
    step.scale = scale;
    own_->steps.push_back(std::move(made));
}

void Program::lookup(const Span& from, const Span& to, std::size_t rows, std::size_t columns,
                     const std::vector<float>& table) {
    const Bounds bounds{own_->arena_size, lanes()};
    bounds.check(from);
    bounds.check(to);
    const std::size_t width = own_->samples_in_lanes ? lanes() : 1;
    require(rows > 0 && columns > 0 && table.size() == engine::product(rows, columns), "a table has another size");
    require(from.size % width == 0 && to.size == engine::product(from.size, columns), "an array has another size");
    auto made = std::make_unique<Lookup>();
    made->table = table;
    LookupStep& step = made->step;
    step.source = from.offset;
    step.target = to.offset;
    step.count = from.size / width;
    step.rows = rows;
    step.columns = columns;
    step.cells = own_->samples_in_lanes;
    step.table = made->table.data();
    own_->steps.push_back(std::move(made));
}

}  // namespace engine
}  // namespace secateur
