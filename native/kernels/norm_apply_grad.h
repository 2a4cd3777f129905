// The gradient by x of batch normalisation by settled statistics, which layers that are kept as they are use
// in training: dx = dy·weight/√(variance + ε).

struct NormApplyGradCall {
  int64_t rows, depth;
  double epsilon;
};

template <class T>
static bool batch_norm_apply_grad_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const NormApplyGradCall*>(parameters);
  if (p.rows <= 0 || p.depth <= 0 || !(p.epsilon >= 0.0)) return false;
  bytes[0] = bytes[3] = product(p.rows, p.depth, kBytes<T>);
  bytes[1] = bytes[2] = bytes[4] = product(p.depth, 4);
  return true;
}

template <class T>
struct Slopes {
  const T* dy;
  T* dx;
  const float* slope;

  Vector channels(int64_t c, int width) const { return load(slope + c, width); }
  void make(int64_t i, int width, Vector of) const { store(load(dy + i, width) * of, dx + i, width); }
};

template <class T>
static void batch_norm_apply_grad(const Call& call, Threads& threads) {
  const auto& p = call.as<NormApplyGradCall>();
  const float *weight = call.at<float>(1), *variance = call.at<float>(2);
  float* slope = call.at<float>(4);
  for (int64_t c = 0; c < p.depth; ++c)
    slope[c] = static_cast<float>(static_cast<double>(weight[c]) /
                                  sqrt(static_cast<double>(variance[c]) + p.epsilon));
  map_rows(threads, p.rows, p.depth, Slopes<T>{call.at<T>(0), call.at<T>(3), slope});
}
