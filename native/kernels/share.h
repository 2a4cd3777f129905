// How work on long arrays is cut: into tasks by its size alone, never by the number of threads, and into
// vectors.

// What a number of a map takes.
template <class T>
constexpr int64_t kBytes = sizeof(T);

// Bytes of scratch memory that a kernel with such parameters, on maps of T, needs on every thread: none,
// unless the struct has a function of its own.
template <class T, class Parameters>
static int64_t scratch(const Parameters&) {
  return 0;
}

template <class T, class Parameters>
static int64_t scratch_of(const void* parameters) {
  return scratch<T>(*static_cast<const Parameters*>(parameters));
}

constexpr int64_t kLine = 64;  // bytes

constexpr int64_t kTaskNumbers = 32768;

// Calls work(first, last) for runs of `size` numbers.
template <class Work>
static void by_numbers(Threads& threads, int64_t size, const Work& work) {
  const int64_t tasks = pieces(size, kTaskNumbers);
  threads.each(tasks,
               [&](int64_t task) { work(task * kTaskNumbers, lesser(size, (task + 1) * kTaskNumbers)); });
}

// Calls work(first, last) for runs of rows of `depth` numbers.
template <class Work>
static void by_rows(Threads& threads, int64_t rows, int64_t depth, const Work& work) {
  const int64_t each = greater(1, kTaskNumbers / depth), tasks = pieces(rows, each);
  threads.each(tasks, [&](int64_t task) { work(task * each, lesser(rows, (task + 1) * each)); });
}

// Adds up `count` partial sums of `size` numbers each, in their order.
static void add_partial_sums(const float* partial, int64_t count, int64_t size, float* sum,
                             Threads& threads) {
  constexpr int64_t kPiece = 4096;
  threads.each(pieces(size, kPiece), [&](int64_t piece) {
    const int64_t end = lesser(size, (piece + 1) * kPiece);
    for (int64_t i = piece * kPiece; i < end; ++i) sum[i] = partial[i];
    for (int64_t k = 1; k < count; ++k)
      for (int64_t i = piece * kPiece; i < end; ++i) sum[i] += partial[k * size + i];
  });
}

// Sums over rows, channel by channel, are cut into this many partial sums.
static int64_t partial_sums(int64_t rows, int64_t depth) {
  return greater(1, lesser(64, product(rows, depth) / kTaskNumbers));
}

template <class T>
static Vector load(const T* p, int width) {
  return width == Vector::kWidth ? Vector::load(p) : Vector::load(p, width);
}

template <class T>
static void store(Vector value, T* p, int width) {
  if (width == Vector::kWidth)
    value.store(p);
  else
    value.store(p, width);
}

// A row of maps of T as numbers of type P: where it lies, or a copy of it in `room`.
template <class T>
static const T* read_as(const T* row, int64_t, T*) {
  return row;
}

[[maybe_unused]] static const float* read_as(const Bfloat16* row, int64_t size, float* room) {
  int64_t i = 0;
  for (; i + Vector::kWidth <= size; i += Vector::kWidth) Vector::load(row + i).store(room + i);
  for (; i < size; ++i) room[i] = widened(row[i]);
  return room;
}

template <class T, class P = float>
constexpr bool kCopied = sizeof(T) != sizeof(P);

// Calls work(at, width) for every vector of `count` numbers.
template <class Work>
static void by_vectors(int64_t count, const Work& work) {
  int64_t at = 0;
  for (; at + Vector::kWidth <= count; at += Vector::kWidth) work(at, Vector::kWidth);
  if (at < count) work(at, static_cast<int>(count - at));
}

constexpr int kGroup = 4;  // sums that grow side by side, so that none waits for its last addition

constexpr int64_t kNearRows = 8;  // rows that are passed over at a time, so that a group's lines lie close

constexpr int64_t kWide = kGroup * Vector::kWidth;

// Rows of `depth` channels as they are gone through: few channels several times over, so that a group of
// vectors finds its numbers side by side.
struct WideRows {
  int64_t rows, width, depth;

  WideRows(int64_t all, int64_t channels) : rows(all), width(channels), depth(channels) {
    if (kWide % depth != 0 || depth % Vector::kWidth != 0 || rows * depth % kWide != 0) return;
    rows = all * depth / kWide;
    width = kWide;
  }
  // The channel of column c.
  int64_t channel(int64_t c) const { return width == depth ? c : c % depth; }
};

// Calls map.make for kVectors vectors of every row, with what map.channels reads for their channels.
template <int kVectors, class Map>
static void map_columns(const Map& map, const WideRows& all, int64_t first, int64_t last, int64_t from,
                        int width) {
  decltype(map.channels(0, 0)) channels[kVectors];
  for (int v = 0; v < kVectors; ++v)
    channels[v] = map.channels(all.channel(from + v * Vector::kWidth), width);
  for (int64_t row = first; row < last; ++row)
    for (int v = 0; v < kVectors; ++v)
      map.make(row * all.width + from + v * Vector::kWidth, width, channels[v]);
}

// The same for all vectors of some rows.
template <class Map>
static void map_part(const Map& own, const WideRows& all, int64_t begin, int64_t end) {
  const int64_t near = greater(kNearRows, 2048 / all.width);
  for (int64_t first = begin; first < end; first += near) {
    const int64_t last = lesser(end, first + near);
    int64_t from = 0;
    for (; from + kWide <= all.width; from += kWide)
      map_columns<kGroup>(own, all, first, last, from, Vector::kWidth);
    by_vectors(all.width - from, [&](int64_t at, int width) {
      if (width == Vector::kWidth)
        map_columns<1>(own, all, first, last, from + at, Vector::kWidth);
      else
        map_columns<1>(own, all, first, last, from + at, width);
    });
  }
}

// The same for all of `rows` rows.
template <class Map>
static void map_rows(Threads& threads, int64_t rows, int64_t depth, const Map& map) {
  const WideRows all(rows, depth);
  by_rows(threads, all.rows, all.width, [&](int64_t begin, int64_t end) {
    const Map own = map;  // that no store can change, for all that the compiler knows
    map_part(own, all, begin, end);
  });
}

// Adds rows of T to sum; four sums grow side by side, so that none waits for its last addition.
template <class T>
static void add_rows(const T* rows, int64_t count, int64_t depth, float* sum) {
  for (int64_t k = 0; k < depth; k += Vector::kWidth) {
    const int width = static_cast<int>(lesser(Vector::kWidth, depth - k));
    Vector part[4] = {load(sum + k, width), Vector::zero(), Vector::zero(), Vector::zero()};
    const T* from = rows + k;
    int64_t row = 0;
    for (; row + 4 <= count; row += 4)
      for (int i = 0; i < 4; ++i, from += depth) part[i] = part[i] + load(from, width);
    for (; row < count; ++row, from += depth) part[0] = part[0] + load(from, width);
    store((part[0] + part[1]) + (part[2] + part[3]), sum + k, width);
  }
}
