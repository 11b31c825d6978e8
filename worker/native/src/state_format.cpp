#include "state_format.h"

#include <algorithm>
#include <cstring>

namespace rbee {

namespace {

constexpr size_t word = sizeof(uint32_t);
constexpr size_t layer_header_bytes = 3 * word;

// Takes bytes from the front. Once there are too few, it gives nothing more and is not good.
class Reader {
 public:
  explicit Reader(const std::vector<uint8_t>& bytes) : at_(bytes.data()), left_(bytes.size()) {}

  bool good() const { return good_; }
  size_t left() const { return left_; }

  const uint8_t* take(size_t bytes) {
    if (!good_ || bytes > left_) {
      good_ = false;
      return nullptr;
    }
    const uint8_t* taken = at_;
    at_ += bytes;
    left_ -= bytes;
    return taken;
  }

  template <typename Number>
  Number number() {
    Number value = 0;
    const uint8_t* bytes = take(sizeof(value));
    if (bytes != nullptr) std::memcpy(&value, bytes, sizeof(value));
    return value;
  }

  std::vector<uint8_t> copy(size_t bytes) {
    const uint8_t* taken = take(bytes);
    return taken == nullptr ? std::vector<uint8_t>() : std::vector<uint8_t>(taken, taken + bytes);
  }

  bool is_next(const std::vector<uint8_t>& expected) {
    const uint8_t* taken = take(expected.size());
    return taken != nullptr && std::equal(expected.begin(), expected.end(), taken);
  }

 private:
  const uint8_t* at_;
  size_t left_;
  bool good_ = true;
};

template <typename Number>
Number number_at(const std::vector<uint8_t>& bytes, size_t at) {
  Number value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// The cells' positions: of attention all of the tokens', each once; of a recurrent model the last one's.
bool read_positions(Reader& reader, uint32_t cells, size_t tokens, bool recurrent) {
  std::vector<bool> seen(recurrent ? 0 : tokens);
  for (uint32_t i = 0; i < cells; i++) {
    const auto position = reader.number<int32_t>();
    const auto owners = reader.number<uint32_t>();
    if (position < 0 || static_cast<size_t>(position) >= tokens) return false;
    if (recurrent) {
      if (owners != 0 || static_cast<size_t>(position) + 1 != tokens) return false;
      continue;
    }
    reader.number<int32_t>(); // the owner; it becomes another
    if (owners != 1 || seen[static_cast<size_t>(position)]) return false;
    seen[static_cast<size_t>(position)] = true;
  }
  return reader.good();
}

// ggml reads values where they are aligned.
bool are_finite(ggml_type type, const uint8_t* values, uint64_t bytes) {
  constexpr size_t blocks = 4096;
  std::vector<uint8_t> aligned(static_cast<size_t>(std::min<uint64_t>(bytes, blocks * ggml_type_size(type))));
  for (uint64_t at = 0; at < bytes; at += aligned.size()) {
    const auto part = static_cast<size_t>(std::min<uint64_t>(aligned.size(), bytes - at));
    std::memcpy(aligned.data(), values + at, part);
    if (!ggml_validate_row_data(type, aligned.data(), part)) return false;
  }
  return true;
}

} // namespace

std::optional<StateFormat> StateFormat::learn(const std::vector<uint8_t>& sample, bool recurrent) {
  StateFormat format;
  format.recurrent_ = recurrent;
  Reader reader(sample);
  format.mark_ = reader.copy(word);
  reader.number<int32_t>();
  if (!recurrent && reader.number<uint32_t>() != 1) return std::nullopt;
  if (reader.number<uint32_t>() != 1 || !read_positions(reader, 1, 1, recurrent)) return std::nullopt;
  format.layout_ = reader.copy(2 * word);
  if (!reader.good()) return std::nullopt;
  const bool transposed = number_at<uint32_t>(format.layout_, 0) != 0;
  const auto count = number_at<uint32_t>(format.layout_, word);
  while (reader.left() > 0) {
    Layer layer{reader.copy(layer_header_bytes), GGML_TYPE_COUNT, 0};
    if (!reader.good()) return std::nullopt;
    layer.type = static_cast<ggml_type>(number_at<int32_t>(layer.header, 0));
    if (layer.type < 0 || layer.type >= GGML_TYPE_COUNT) return std::nullopt;
    // Keys are written a cell after the other, values maybe a component after the other.
    layer.cell_bytes =
        transposed && format.layers_.size() >= count
            ? uint64_t{number_at<uint32_t>(layer.header, word)} * number_at<uint32_t>(layer.header, 2 * word)
            : number_at<uint64_t>(layer.header, word);
    if (reader.take(layer.cell_bytes) == nullptr) return std::nullopt;
    format.layers_.push_back(std::move(layer));
  }
  if (format.layers_.empty()) return std::nullopt;
  return format;
}

bool StateFormat::fits(const std::vector<uint8_t>& saved, size_t tokens) const {
  if (tokens == 0) return false;
  Reader reader(saved);
  if (!reader.is_next(mark_)) return false;
  reader.number<int32_t>(); // the sequence's id where it was
  if (!recurrent_ && reader.number<uint32_t>() != 1) return false;
  const auto cells = reader.number<uint32_t>();
  if (cells != (recurrent_ ? 1 : tokens) || !read_positions(reader, cells, tokens, recurrent_)) return false;
  if (!reader.is_next(layout_)) return false;
  for (const Layer& layer : layers_) {
    if (!reader.is_next(layer.header)) return false;
    const uint64_t bytes = layer.cell_bytes * cells;
    const uint8_t* values = reader.take(bytes);
    // In a common cache the others' rows are multiplied by zero, and a NaN stays what it is.
    if (values == nullptr || !are_finite(layer.type, values, bytes)) return false;
  }
  return reader.good() && reader.left() == 0;
}

} // namespace rbee
