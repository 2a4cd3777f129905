// Losses, counts and the penalty against their definitions in double.
#include <cmath>

#include "case.h"

namespace selftest {

namespace {

struct Batch {
  int64_t images, classes;
  Floats scores;
  Words labels;

  Batch(int64_t n, int64_t k, Random& random) : images(n), classes(k), scores(random.real(n * k, 5.0)) {
    for (int64_t i = 0; i < n; ++i) labels.push_back(random.below(k));
  }
  std::string text() const {
    return std::to_string(images) + " images, " + std::to_string(classes) + " classes";
  }
  double score(int64_t n, int64_t k) const { return scores[n * classes + k]; }
};

void cross_entropy(const Batch& b, double smoothing, const Emit& emit) {
  Doubles losses, losses_off, probabilities, probabilities_off;
  for (int64_t n = 0; n < b.images; ++n) {
    double top = b.score(n, 0), sum = 0, loss = 0;
    for (int64_t k = 0; k < b.classes; ++k)
      if (b.score(n, k) > top) top = b.score(n, k);
    bool number = true;
    for (int64_t k = 0; k < b.classes; ++k) number = number && b.score(n, k) == b.score(n, k);
    if (!number) top = static_cast<double>(not_a_number());
    for (int64_t k = 0; k < b.classes; ++k) sum += std::exp(b.score(n, k) - top);
    double size = std::log(sum);
    for (int64_t k = 0; k < b.classes; ++k) {
      const double share =
          (k == b.labels[n] ? 1 - smoothing : 0) + smoothing / static_cast<double>(b.classes);
      const double log_softmax = b.score(n, k) - top - std::log(sum);
      if (share > 0) loss -= share * log_softmax;
      if (share > 0) size += std::fabs(share * log_softmax);
      probabilities.push_back(std::exp(log_softmax));
      probabilities_off.push_back(2 * kEps * std::exp(log_softmax) + 1e-44);
    }
    losses.push_back(loss);
    losses_off.push_back(0.5 * kEps * std::fabs(loss) + 1e-13 * size);
  }
  emit({"softmax_cross_entropy",
        b.text() + ", smoothing " + std::to_string(smoothing),
        {b.images, b.classes, word(smoothing)},
        {given(b.scores), given(b.labels), made(rounded(losses), losses_off),
         made(rounded(probabilities), probabilities_off)}});

  const Floats given_probabilities = rounded(probabilities);
  Doubles dx, off;
  for (int64_t n = 0; n < b.images; ++n)
    for (int64_t k = 0; k < b.classes; ++k) {
      const double p = given_probabilities[n * b.classes + k];
      const double share =
          (k == b.labels[n] ? 1 - smoothing : 0) + smoothing / static_cast<double>(b.classes);
      dx.push_back((p - share) / static_cast<double>(b.images));
      off.push_back(3 * kEps * (p + share) / static_cast<double>(b.images));
    }
  emit({"softmax_cross_entropy_grad",
        b.text() + ", smoothing " + std::to_string(smoothing),
        {b.images, b.classes, word(smoothing)},
        {given(given_probabilities), given(b.labels), made_map(rounded(dx), off)}});
}

// Targets of any mass, some of them zero.
void targeted(const Batch& b, Random& random, const Emit& emit) {
  Floats targets = random.real(b.images * b.classes, 1.0);
  for (float& target : targets) target = target < 0.0f ? 0.0f : target;
  Doubles losses, losses_off, probabilities, probabilities_off;
  for (int64_t n = 0; n < b.images; ++n) {
    double top = b.score(n, 0), sum = 0, loss = 0, size = 0;
    for (int64_t k = 1; k < b.classes; ++k)
      if (b.score(n, k) > top) top = b.score(n, k);
    for (int64_t k = 0; k < b.classes; ++k) sum += std::exp(b.score(n, k) - top);
    for (int64_t k = 0; k < b.classes; ++k) {
      const double target = targets[n * b.classes + k], log_softmax = b.score(n, k) - top - std::log(sum);
      if (target != 0) loss -= target * log_softmax;
      if (target != 0) size += target * (std::fabs(b.score(n, k) - top) + std::fabs(std::log(sum)));
      probabilities.push_back(std::exp(log_softmax));
      probabilities_off.push_back(2 * kEps * std::exp(log_softmax) + 1e-44);
    }
    losses.push_back(loss);
    losses_off.push_back(0.5 * kEps * std::fabs(loss) + 1e-13 * size);
  }
  emit({"target_cross_entropy",
        b.text(),
        {b.images, b.classes},
        {given(b.scores), given(targets), made(rounded(losses), losses_off),
         made(rounded(probabilities), probabilities_off)}});

  const Floats given_probabilities = rounded(probabilities);
  Doubles dx, off;
  for (int64_t n = 0; n < b.images; ++n) {
    double mass = 0;
    for (int64_t k = 0; k < b.classes; ++k) mass += targets[n * b.classes + k];
    for (int64_t k = 0; k < b.classes; ++k) {
      const double p = given_probabilities[n * b.classes + k], target = targets[n * b.classes + k];
      dx.push_back((mass * p - target) / static_cast<double>(b.images));
      off.push_back(3 * kEps * (mass * p + target) / static_cast<double>(b.images));
    }
  }
  emit({"target_cross_entropy_grad",
        b.text(),
        {b.images, b.classes},
        {given(given_probabilities), given(targets), made_map(rounded(dx), off)}});
}

void hinge(const Batch& b, const Emit& emit) {
  Doubles losses, losses_off, dx, dx_off;
  for (int64_t n = 0; n < b.images; ++n) {
    double loss = 0;
    int64_t over = 0;
    for (int64_t k = 0; k < b.classes; ++k) {
      if (k == b.labels[n]) continue;
      const double margin = b.score(n, k) - b.score(n, b.labels[n]) + 1;
      if (margin > 0 || margin != margin) loss += margin;
      over += margin > 0;
    }
    losses.push_back(loss);
    losses_off.push_back(0.5 * kEps * loss);
    for (int64_t k = 0; k < b.classes; ++k) {
      const double margin = b.score(n, k) - b.score(n, b.labels[n]) + 1;
      const double slope = k == b.labels[n] ? -static_cast<double>(over) : margin > 0 ? 1 : 0;
      dx.push_back(slope / static_cast<double>(b.images));
      dx_off.push_back(kEps * std::fabs(dx.back()));
    }
  }
  emit({"hinge",
        b.text(),
        {b.images, b.classes, word(0.0)},
        {given(b.scores), given(b.labels), made(rounded(losses), losses_off)}});
  emit({"hinge_grad",
        b.text(),
        {b.images, b.classes, word(0.0)},
        {given(b.scores), given(b.labels), made_map(rounded(dx), dx_off)}});
}

// The first of the largest counts; scores that hold a NaN have no largest.
void correct(const Batch& b, const Emit& emit) {
  double count = 0;
  for (int64_t n = 0; n < b.images; ++n) {
    int64_t best = 0;
    bool numbers = true;
    for (int64_t k = 0; k < b.classes; ++k) {
      numbers = numbers && b.score(n, k) == b.score(n, k);
      if (b.score(n, k) > b.score(n, best)) best = k;
    }
    count += numbers && best == b.labels[n];
  }
  emit({"count_correct",
        b.text(),
        {b.images, b.classes, word(0.0)},
        {given(b.scores), given(b.labels), made(Doubles{count})}});
}

void penalty(int64_t size, bool first, Random& random, const Emit& emit) {
  const Floats weight = random.whole(size, 3);
  const double l2 = 0.5, l1 = 0.25, before = first ? 1e9 : 3.0;
  double sum = first ? 0 : before;
  for (const float w : weight) sum += l2 / 2 * w * w + l1 * std::fabs(w);
  emit({"penalty",
        std::to_string(size),
        {size, word(l2), word(l1), first},
        {given(weight), changed(Doubles{before}, Doubles{sum})}});
}

}  // namespace

void loss_cases(bool small, const Emit& emit) {
  Random random(6);
  for (const int64_t images : {1, 7, 33})
    for (const int64_t classes : {1, 2, 10, small ? 11 : 1000}) {
      Batch b(images, classes, random);
      for (const double smoothing : {0.0, 0.1, 1.0}) cross_entropy(b, smoothing, emit);
      targeted(b, random, emit);
      hinge(b, emit);
      correct(b, emit);
      // Equal scores, scores that overflow exp, and scores that are none.
      b.scores = random.whole(images * classes, 2);
      hinge(b, emit);
      correct(b, emit);
      for (float& score : b.scores) score *= 500;
      cross_entropy(b, 0.0, emit);
      targeted(b, random, emit);
      for (size_t i = 0; i < b.scores.size(); i += 13) b.scores[i] = not_a_number();
      cross_entropy(b, 0.1, emit);
      hinge(b, emit);
      correct(b, emit);
    }
  Batch impossible(5, 4, random);
  for (int64_t n = 0; n < 5; ++n) impossible.scores[n * 4 + (impossible.labels[n] + 1) % 4] = -infinity();
  cross_entropy(impossible, 0.0, emit);
  for (const int64_t size : {1, 3, 1000}) {
    const Floats losses = random.whole(size, 50);
    double sum = 0;
    for (const float loss : losses) sum += loss;
    emit({"mean_loss",
          std::to_string(size),
          {size},
          {given(losses), made(Doubles{sum / static_cast<double>(size)})}});
    penalty(size, true, random, emit);
    penalty(size, false, random, emit);
  }
}

}  // namespace selftest
