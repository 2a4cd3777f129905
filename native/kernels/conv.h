// Convolution and its gradient by the inputs, as products of floats: a sweep over rows each.

static bool pack_weights_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const PackCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.taps, p.depth / p.groups, p.filters, 4);
  bytes[1] = product(packed_size(p.taps, p.inner(), p.columns(), p.groups), 4);
  return true;
}

static void pack_weights(const Call& call, Threads& threads) {
  const auto& p = call.as<PackCall>();
  const float* weight = call.at<float>(0);
  float* packed = call.at<float>(1);
  const int64_t panels = pieces(p.columns(), kPanel);
  const int64_t depth = p.depth / p.groups, filters = p.filters / p.groups;
  threads.each(p.groups * panels * p.taps, [&](int64_t task) {
    const int64_t tap = task % p.taps, panel = task / p.taps % panels, group = task / p.taps / panels;
    float* to = packed + task * p.inner() * kPanel;
    const float* from = weight + tap * depth * p.filters + group * filters;
    const int64_t width = lesser(p.columns() - panel * kPanel, kPanel);
    for (int64_t k = 0; k < p.inner(); ++k, to += kPanel) {
      for (int64_t j = 0; j < width; ++j) {
        const int64_t column = panel * kPanel + j;
        to[j] = p.backward ? from[column * p.filters + k] : from[k * p.filters + column];
      }
      for (int64_t j = width; j < kPanel; ++j) to[j] = 0.0f;
    }
  });
}

// y = relu(x ∗ W + bias)
template <class T>
static bool conv_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const SweepCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible()) return false;
  bytes[0] = product(p.x().size(), kBytes<T>);
  const int64_t panels = packed_size(p.taps(), p.group_depth(), p.group_filters(), p.groups);
  bytes[1] = product(p.packed ? panels : p.weights(), 4);
  bytes[2] = p.has_bias ? product(p.filters, 4) : 0;
  bytes[3] = product(p.y().size(), kBytes<T>);
  return true;
}

template <class T>
static void conv(const Call& call, Threads& threads) {
  const auto& cut = call.as<SweepCall>();
  const ConvCall& p = cut.conv;
  Sweep<T> sweep = forward_sweep<T>(p);
  sweep.pad();
  sweep.from = call.at<T>(0);
  sweep.weights = call.at<float>(1);
  sweep.bias = p.has_bias ? call.at<float>(2) : nullptr;
  sweep.to = call.at<T>(3);
  sweep.relu = p.relu != 0;
  if (p.packed) {
    lay_panels(sweep);
  } else {
    sweep.tap_step = p.group_depth() * p.filters;
    sweep.b_step = p.filters;
    sweep.panel_step = kPanel;
    sweep.group_step = p.group_filters();
  }
  sweep_rows(sweep, cut, threads);
}

// dx = dy ∗ Wᵀ, closed where the gate (x itself, a ReLU's output) is not positive
template <class T>
static bool conv_input_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& given = *static_cast<const SweepCall*>(parameters);
  const ConvCall& p = given.conv;
  if (!given.sensible() || !p.packed) return false;
  bytes[0] = product(p.y().size(), kBytes<T>);
  bytes[1] = product(packed_size(p.taps(), p.group_filters(), p.group_depth(), p.groups), 4);
  bytes[2] = p.has_gate ? product(p.x().size(), kBytes<T>) : 0;
  bytes[3] = product(p.x().size(), kBytes<T>);
  return true;
}

template <class T>
static void conv_input_grad(const Call& call, Threads& threads) {
  const auto& cut = call.as<SweepCall>();
  const ConvCall& p = cut.conv;
  Sweep<T> sweep = backward_sweep<T>(p);
  sweep.pad();
  sweep.from = call.at<T>(0);
  sweep.weights = call.at<float>(1);
  sweep.gate = p.has_gate ? call.at<T>(2) : nullptr;
  sweep.to = call.at<T>(3);
  lay_panels(sweep);
  sweep_rows(sweep, cut, threads);
}
