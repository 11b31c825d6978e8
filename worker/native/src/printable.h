// Text from elsewhere, made harmless for a terminal and for a line of a log: protocol/printable.ts in C++.
#pragma once

#include <cstddef>
#include <string>

namespace rbee {

// `text` as part of one line, of at most about `max_bytes`. What would move, colour or reorder a terminal,
// end the line or cannot be seen is escaped as JSON escapes it; what is no UTF-8 becomes U+FFFD.
std::string printable(const std::string& text, size_t max_bytes);

} // namespace rbee
