// Replays what attention's queries see on a rank: bands, and the windows of keys that context parallelism leaves.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kernels/row_plan.h"
#include "layouts/json_reader.h"
#include "layouts/notation.h"
#include "ops/attention/band.h"
#include "ops/attention/row_plans.h"
#include "support/text.h"
#include "testing/conformance/cases.h"

namespace tessera::conformance {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMostRows = 1 << 24;  // rows are looked at one by one

std::int64_t integer(const Json& json, const std::string& key, const std::string& pointer = "") {
  return read_integer(required(json, key, pointer), pointer + "/" + key, "an integer");
}
std::int64_t integer_or(const Json& json, const std::string& key, std::int64_t otherwise) {
  const Json& value = value_or_null(json, key);
  return value.is_null() ? otherwise : read_integer(value, "/" + key, "an integer");
}
std::optional<std::int64_t> bound(const Json& json, const std::string& key) {
  const Json& value = value_or_null(json, key);
  return value.is_null() ? std::nullopt : std::optional(read_integer(value, "/local_band/" + key, "a bound or null"));
}

std::string keys_text(std::span<const KeyRange> rows) {
  std::vector<std::string> parts;
  for (const KeyRange& keys : rows)
    parts.push_back(keys.begin < keys.end ? fmt::format("{}..{}", keys.begin, keys.end - 1) : "-");
  return join(parts, " ");
}
std::string bound_text(std::optional<std::int64_t> value) { return value ? std::to_string(*value) : "-"; }
std::string band_text(const Band& band) { return fmt::format("band {} to {}", bound_text(band.lo), bound_text(band.hi)); }

// The keys that the rows of a plan of one sequence see, in the rows' order.
std::vector<KeyRange> rows_of(const RowPlan& plan, std::int64_t rows) {
  std::vector<KeyRange> keys(static_cast<std::size_t>(rows));
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) keys[static_cast<std::size_t>(segment.row + i)] = keys_of(segment, i);
  }
  return keys;
}

// The band with bounds that hide no key of any of the rows left out, as ours leaves them out.
Band without_idle_bounds(Band band, const Band& like, std::int64_t rows, std::int64_t keys) {
  if (band.lo && !like.lo && rows - 1 + *band.lo <= 0) band.lo.reset();
  if (band.hi && !like.hi && *band.hi >= keys - 1) band.hi.reset();
  return band;
}

// The largest limit of a rank's rows: so many keys it needs at most.
std::int64_t keys_needed(const RowPlan& plan) {
  std::int64_t most = 0;
  for (const RowSegment& segment : plan.segments) {
    for (std::int64_t i = 0; i < segment.count; ++i) most = std::max(most, keys_of(segment, i).end);
  }
  return most;
}

// A rank's rows of a sequence that is split evenly.
struct Window {
  std::int64_t rows = 0;   // local
  std::int64_t split = 0;  // which part
  std::int64_t splits = 1;
  std::int64_t keys = 0;  // global
  Masking masking;

  [[nodiscard]] RowPlan plan() const {
    return plan_padded({.batch = 1, .rows_total = rows * splits, .keys_total = keys}, {{split * rows, (split + 1) * rows}},
                       masking);
  }
  // Whether the rows see other keys than a kernel's own mask of the local rows and all keys lets them see.
  [[nodiscard]] bool is_shifted() const {
    const Band band = translate(band_of(masking, rows * splits, keys), split * rows, 0);
    return band.hi && *band.hi != 0;
  }
};

// The key of the indexer's statistics is causal to the bottom right; torch's attention from the top left, where it is causal.
Window read_window(const Json& test, bool indexer) {
  const Json& attributes = required(test, "attrs", "");
  const Json& inputs = value_or_null(test, "inputs");
  Window window;
  window.rows = integer(attributes, attributes.contains("local_q_s1") ? "local_q_s1" : "local_q_len", "/attrs");
  window.split = integer(attributes, "split_id", "/attrs");
  const auto dim = static_cast<std::size_t>(integer_or(attributes, "seq_dim", 1));
  const Json& shape =
      inputs.is_array() && !inputs.empty() ? value_or_null(inputs[0], "shape") : value_or_null(test, "shape");
  const bool told = shape.is_array() && dim < shape.size();
  window.keys = integer_or(attributes, "global_kv_len", told ? read_integer(shape[dim], "/inputs/0/shape", "a size") : -1);
  if (window.keys < 0) fail("json-missing", "the case does not say how many keys there are");
  if (window.rows < 1 || window.rows > kMostRows || window.keys > kMostRows)
    fail("json-type", fmt::format("there are no windows of {} rows", window.rows));
  // Where the case does not say how many queries there are in all, as many as keys.
  window.splits = integer_or(attributes, "seq_split_num",
                             window.keys % window.rows == 0 ? window.keys / window.rows : window.split + 1);
  if (window.split < 0 || window.split >= window.splits || window.splits > kMostRows) {
    fail("json-type", fmt::format("there is no part {} of {}", window.split, window.splits));
  }
  if (indexer) {
    window.masking = {.next = 0, .right_down = true};
  } else if (value_or_null(attributes, "is_causal") == true) {
    window.masking = {.next = 0};
  }
  return window;
}

}  // namespace

Outcome replay_band(const Json& test) {
  const std::int64_t queries = integer(test, "q_len");
  const std::int64_t keys = integer(test, "kv_len");
  const std::int64_t q_offset = integer_or(test, "q_offset", 0);
  const std::int64_t kv_offset = integer_or(test, "kv_offset", 0);
  const Json& listed = required(test, "visible_keys_per_local_row", "");
  if (!listed.is_array()) fail_json_type(listed, "/visible_keys_per_local_row", "a list of [first, last]");
  const auto rows = static_cast<std::int64_t>(listed.size());
  for (std::int64_t number : {queries, keys, q_offset, kv_offset}) {
    if (number < 0 || number > kMostRows) fail("json-type", fmt::format("there are no sequences of {} rows", number));
  }
  std::vector<KeyRange> expected;
  for (const Json& entry : listed) {
    if (entry.is_null()) {
      expected.push_back({});
      continue;
    }
    const std::vector<std::int64_t> range = read_integers(entry, "/visible_keys_per_local_row", "[first, last]", "a key");
    if (range.size() != 2) fail_json_type(entry, "/visible_keys_per_local_row", "[first, last]");
    expected.push_back({range[0], range[1] + 1});
  }
  const Json& local = required(test, "local_band", "");
  Band expected_band{bound(local, "lo"), bound(local, "hi")};

  std::string got_keys;
  Band band;
  const Answer got = answer([&] {
    const Masking masking = masking_of_mode(integer(test, "sparse_mode"), integer_or(test, "pre_tokens", Masking::kAll),
                                            integer_or(test, "next_tokens", Masking::kAll));
    band = translate(band_of(masking, queries, keys), q_offset, kv_offset);
    // Twice: from the translated band, and from the plan of the rows as a kernel gets it.
    std::vector<KeyRange> seen;
    for (std::int64_t i = 0; i < rows; ++i) seen.push_back(visible_keys(band, i, keys - kv_offset));
    const std::vector<KeyRange> planned = rows_of(
        plan_padded({.batch = 1, .rows_total = queries, .keys_total = keys}, {{q_offset, q_offset + rows}}, masking), rows);
    std::vector<KeyRange> local_plan;
    for (const KeyRange& range : planned)
      local_plan.push_back({std::max<std::int64_t>(0, range.begin - kv_offset), range.end - kv_offset});
    std::string text = fmt::format("{}: {}", band_text(band), keys_text(seen));
    if (keys_text(local_plan) != keys_text(seen)) text += fmt::format(" (planned: {})", keys_text(local_plan));
    return text;
  });
  expected_band = without_idle_bounds(expected_band, band, rows, keys - kv_offset);
  return compare(fmt::format("{}: {}", band_text(expected_band), keys_text(expected)), got);
}

Outcome replay_window(const Json& test) {
  const std::string& op = read_text(required(test, "op", ""), "/op", "a name");
  const bool indexer = op == "adjust_bsnd_key";
  if (!indexer && op != "sdpa_adjust_for_sp") throw Skip{fmt::format("there is no question '{}' about windows", op)};
  const Json& expect = required(test, "expect", "");
  if (!expect.is_object()) fail_json_type(expect, "/expect", "an object");
  const Json& attributes = required(test, "attrs", "");
  std::vector<std::string> expected;
  std::vector<std::string> got;
  const Answer refusal = answer([&] {
    for (const auto& entry : expect.items()) {
      const std::string& key = entry.key();
      const Json& value = entry.value();
      const auto add = [&](const std::string& theirs, const std::string& mine) {
        expected.push_back(fmt::format("{} {}", key, theirs));
        got.push_back(fmt::format("{} {}", key, mine));
      };
      if (key == "s2_after" || key == "kv_len_after") {
        add(value.dump(), std::to_string(keys_needed(read_window(test, indexer).plan())));
      } else if (key == "mask") {
        add(value == "explicit" ? "explicit" : "none", read_window(test, indexer).is_shifted() ? "explicit" : "none");
      } else if (key == "is_causal") {
        const Window window = read_window(test, indexer);
        add(value.dump(), window.masking.next == 0 && !window.is_shifted() ? "true" : "false");
      } else if (key == "mask_shape_after") {
        const std::vector<std::int64_t> sizes =
            read_integers(required(attributes, "mask_shape", "/attrs"), "/attrs/mask_shape", "a shape", "a size");
        if (sizes.size() < 2 || sizes.size() > 4)
          fail("rank-mismatch", fmt::format("a mask has 2 to 4 dims, not {}", sizes.size()));
        const Shape shape(sizes.begin(), sizes.end());
        const DeviceMesh mesh({{"s", integer(attributes, "seq_split_num", "/attrs")}});
        // [b, h, s, t], aligned at the right: rows are the dim before the last; a mask of one row repeats.
        Layout layout = Layout::replicated(mesh, static_cast<int>(shape.size()));
        const int rows = layout.rank() - 2;
        if (shape[static_cast<std::size_t>(rows)] > 1) layout = layout.with_dim(rows, {{0}, {}});
        const Shape local = local_shape(layout, shape, mesh.coordinate_of(integer(attributes, "split_id", "/attrs")));
        add(value.dump(), Json(std::vector<std::int64_t>(local.begin(), local.end())).dump());
      }
    }
    return std::string();
  });
  if (expects_refusal(expect)) return expect_refusal(expect, refusal);
  if (refusal.refused()) return compare(join(expected), refusal);
  if (expected.empty()) throw Skip{"nothing that the case expects is known here"};
  return compare(join(expected), {join(got), ""});
}

}  // namespace tessera::conformance
