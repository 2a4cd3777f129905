// A batch out of a set of images: chosen, moved, and made the numbers that a network sees, in one pass.

struct AssembleCall {
  int64_t images, batch, height, width, depth;
  int64_t bytes;  // the images' numbers are bytes, else floats
  int64_t moved;  // the row and the column of its image that each pixel comes from are given; -1 is zero
  int64_t rows;   // of factors, one for all rows of an image or one for each

  int64_t row() const { return width * depth; }
  bool sensible() const {
    return moderate(*this) && images > 0 && batch > 0 && height > 0 && width > 0 && depth > 0 && bytes <= 1 &&
           moved <= 1 && (rows == 1 || rows == height);
  }
};

static bool assemble_sizes(const void* parameters, int64_t* bytes) {
  const auto& p = *static_cast<const AssembleCall*>(parameters);
  if (!p.sensible()) return false;
  bytes[0] = product(p.images, p.height, p.width, p.depth, p.bytes ? 1 : 4);
  bytes[1] = product(p.batch, 8);
  bytes[2] = p.moved ? product(p.batch, p.height, 4) : 0;
  bytes[3] = p.moved ? product(p.batch, p.width, 4) : 0;
  bytes[4] = bytes[5] = product(p.rows, p.width, p.depth, 4);
  bytes[6] = product(p.batch, p.height, p.width, p.depth, 4);
  return true;
}

// Numbers of one row that are gathered before they are scaled, so that vectors run on across pixels; and
// the depth from which a pixel is long enough by itself.
constexpr int64_t kStaged = 1024, kDeep = 64;

template <class T>
static void scaled(const T* __restrict from, const float* __restrict scale, const float* __restrict shift,
                   float* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]) * scale[i] + shift[i];
}

// Pixels of `depth` numbers side by side; a depth that the compiler knows needs no loop.
template <class T, int64_t kDepth>
static void stage(const T* row, const int32_t* columns, int64_t count, int64_t depth, T* to) {
  static const T kZeros[kDeep] = {};
  const int64_t each = kDepth > 0 ? kDepth : depth;
  for (int64_t x = 0; x < count; ++x) {
    const T* from = columns[x] < 0 ? kZeros : row + columns[x] * each;
    for (int64_t c = 0; c < each; ++c) to[x * each + c] = from[c];
  }
}

template <class T>
static void moved_row(const T* row, const int32_t* columns, int64_t width, int64_t depth, const float* scale,
                      const float* shift, float* to) {
  const auto gather = depth == 1 ? stage<T, 1> : depth == 3 ? stage<T, 3> : stage<T, 0>;
  const int64_t together = kStaged / depth;
  T staged[kStaged];
  for (int64_t x = 0; x < width; x += together) {
    const int64_t count = lesser(together, width - x), at = x * depth;
    gather(row, columns + x, count, depth, staged);
    scaled(staged, scale + at, shift + at, to + at, count * depth);
  }
}

template <class T>
static void moved_deep_row(const T* row, const int32_t* columns, int64_t width, int64_t depth,
                           const float* scale, const float* shift, float* to) {
  for (int64_t x = 0; x < width; ++x, scale += depth, shift += depth, to += depth) {
    if (columns[x] >= 0) {
      scaled(row + columns[x] * depth, scale, shift, to, depth);
    } else {
      for (int64_t c = 0; c < depth; ++c) to[c] = 0.0f * scale[c] + shift[c];
    }
  }
}

template <class T>
static void assemble_from(const Call& call, Threads& threads) {
  const auto& p = call.as<AssembleCall>();
  const T* images = call.at<T>(0);
  const int64_t* indices = call.at<int64_t>(1);
  const float* scale = call.at<float>(4);
  const float* shift = call.at<float>(5);
  const auto row = p.depth < kDeep ? moved_row<T> : moved_deep_row<T>;
  threads.each(p.batch, [&](int64_t n) {
    const T* image = images + indices[n] * p.height * p.row();
    float* to = call.at<float>(6) + n * p.height * p.row();
    for (int64_t y = 0; y < p.height; ++y, to += p.row()) {
      const int64_t factors = p.rows == 1 ? 0 : y * p.row();
      const int64_t from = p.moved ? call.at<int32_t>(2)[n * p.height + y] : y;
      if (from < 0) {
        for (int64_t i = 0; i < p.row(); ++i) to[i] = 0.0f * scale[factors + i] + shift[factors + i];
      } else if (p.moved) {
        row(image + from * p.row(), call.at<int32_t>(3) + n * p.width, p.width, p.depth, scale + factors,
            shift + factors, to);
      } else {
        scaled(image + from * p.row(), scale + factors, shift + factors, to, p.row());
      }
    }
  });
}

// to = image[row][column] * scale + shift, each product and each sum rounded. The caller sees to it that
// indices, rows and columns are those of the images.
static void assemble(const Call& call, Threads& threads) {
  call.as<AssembleCall>().bytes ? assemble_from<uint8_t>(call, threads) : assemble_from<float>(call, threads);
}
