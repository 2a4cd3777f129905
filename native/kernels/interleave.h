// Numbers of a few vectors laid in turns: the first of each, then the second of each, and so on.

constexpr int kMostTurns = 8;

// lanes[j][c]: for each lane of made vector j the lane of vector c that it takes, -1 for another vector's.
template <int kCount>
struct Turns {
  int32_t lanes[kCount][kCount][Vector::kWidth];

  constexpr Turns() : lanes() {
    for (int at = 0; at < kCount * Vector::kWidth; ++at)
      for (int c = 0; c < kCount; ++c)
        lanes[at / Vector::kWidth][c][at % Vector::kWidth] = at % kCount == c ? at / kCount : -1;
  }
};

template <int kCount>
static void interleave(Vector (&v)[kCount]) {
  static constexpr Turns<kCount> turns;
  Vector made[kCount];
#pragma GCC unroll 8
  for (int j = 0; j < kCount; ++j) {
    made[j] = Vector::zero();
#pragma GCC unroll 8
    for (int c = 0; c < kCount; ++c) made[j] = Vector::take(turns.lanes[j][c], v[c], made[j]);
  }
#pragma GCC unroll 8
  for (int j = 0; j < kCount; ++j) v[j] = made[j];
}

// Stores the first `count` numbers of vectors that follow one another.
template <int kCount, class T>
static void store_all(const Vector (&v)[kCount], T* to, int64_t count) {
#pragma GCC unroll 8
  for (int j = 0; j < kCount; ++j) {
    const int64_t left = count - j * Vector::kWidth;
    if (left >= Vector::kWidth)
      v[j].store(to + j * Vector::kWidth);
    else if (left > 0)
      v[j].store(to + j * Vector::kWidth, static_cast<int>(left));
  }
}

template <int kNumber>
struct Number {
  static constexpr int value = kNumber;
};

// Calls work(Number<count>()), for a count from 1 to kMostTurns.
template <int kNumber = kMostTurns, class Work>
static void with_number(int64_t count, const Work& work) {
  if (count == kNumber)
    work(Number<kNumber>());
  else if constexpr (kNumber > 1)
    with_number<kNumber - 1>(count, work);
}
