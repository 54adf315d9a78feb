// Attributes: values by name, and what an operator's specs make of them.
#include "core/op/attributes.h"

#include <gmock/gmock.h>

#include "testing/matchers.h"

namespace tessera {
namespace {

using Ints = std::vector<std::int64_t>;

const std::vector<AttributeSpec>& specs() {
  static const std::vector<AttributeSpec> all = {
      {.name = "dim",
       .type = AttributeType::kInt,
       .default_value = std::int64_t{-1},
       .doc = "the dim to reduce",
       .aliases = {"axis"}},
      {.name = "dims", .type = AttributeType::kInts, .doc = "dims of the result"},
      {.name = "scale", .type = AttributeType::kFloat, .default_value = 1.0},
      {.name = "causal", .type = AttributeType::kBool, .default_value = false},
      {.name = "layout",
       .type = AttributeType::kString,
       .default_value = std::string("BSND"),
       .choices = {"BSND", "BNSD", "TND"}},
  };
  return all;
}

const std::vector<AttributeSpec>& required() {
  static const std::vector<AttributeSpec> all = {
      {.name = "heads", .type = AttributeType::kInt, .doc = "how many heads", .required = true}};
  return all;
}

TEST(Attributes, AreOrderedByName) {
  const Attributes attributes{{"b", std::int64_t{2}}, {"a", true}};
  ASSERT_EQ(attributes.entries().size(), 2u);
  EXPECT_EQ(attributes.entries()[0].first, "a");
  EXPECT_EQ(attributes, (Attributes{{"a", true}, {"b", std::int64_t{2}}}));
  EXPECT_EQ(attributes.hash(), (Attributes{{"a", true}, {"b", std::int64_t{2}}}).hash());
  EXPECT_EQ(attributes.get<bool>("a"), true);
  EXPECT_EQ(attributes.find("c"), nullptr);
  EXPECT_EQ(attributes.get_optional<std::int64_t>("c"), std::nullopt);
  EXPECT_EQ(attributes.get_optional<std::int64_t>("b"), 2);
  EXPECT_EQ((Attributes{{"a", {}}}).get_optional<bool>("a"), std::nullopt);
}

TEST(Attributes, EqualOnlyWhereNamesTypesAndValuesAre) {
  const std::vector<AttributeValue> values = {{},      false,      true,          std::int64_t{0},  std::int64_t{1},
                                              0.0,     1.0,        std::string(), std::string("1"), Ints{},
                                              Ints{1}, Ints{1, 0}, Ints{0, 1}};
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = 0; j < values.size(); ++j) {
      EXPECT_EQ((Attributes{{"a", values[i]}}) == (Attributes{{"a", values[j]}}), i == j)
          << to_string(values[i]) << to_string(values[j]);
    }
    EXPECT_FALSE((Attributes{{"a", values[i]}}) == (Attributes{{"b", values[i]}}));
    EXPECT_FALSE((Attributes{{"a", values[i]}}) == Attributes{});
  }
}

TEST(Attributes, GivenTwiceIsAnError) {
  EXPECT_THAT(
      [] {
        Attributes({{"a", true}, {"a", true}});
      },
      FailsWith("duplicate-attribute", "attribute 'a' is given twice"));
}

TEST(Attributes, Print) {
  EXPECT_EQ(to_string(AttributeValue{}), "none");
  EXPECT_EQ(to_string(AttributeValue{true}), "true");
  EXPECT_EQ(to_string(AttributeValue{std::int64_t{-3}}), "-3");
  EXPECT_EQ(to_string(AttributeValue{0.5}), "0.5");
  EXPECT_EQ(to_string(AttributeValue{std::string("BSND")}), "BSND");
  EXPECT_EQ(to_string(AttributeValue{Ints{1, 2}}), "[1, 2]");
  EXPECT_EQ(to_string(AttributeType::kInts), "ints");
}

TEST(Normalise, FillsInDefaultsAndConverts) {
  const Attributes defaults = normalise({}, specs(), "op");
  EXPECT_EQ(defaults.get<std::int64_t>("dim"), -1);
  EXPECT_EQ(defaults.get<std::string>("layout"), "BSND");
  EXPECT_EQ(defaults.get_optional<Ints>("dims"), std::nullopt);
  EXPECT_EQ(defaults.entries().size(), specs().size());
  const Attributes given =
      normalise({{"axis", std::int64_t{2}}, {"dims", std::int64_t{3}}, {"scale", std::int64_t{2}}}, specs(), "op");
  EXPECT_EQ(given.get<std::int64_t>("dim"), 2);
  EXPECT_EQ(given.get<Ints>("dims"), Ints{3});
  EXPECT_EQ(given.get<double>("scale"), 2.0);
  EXPECT_EQ(normalise(given, specs(), "op"), given);
  EXPECT_EQ(normalise({{"dim", {}}}, specs(), "op"), defaults) << "none is the default";
}

TEST(NormaliseFaults, AreExplained) {
  const auto text = [](const Attributes& attributes, const std::vector<AttributeSpec>& of) -> std::string {
    try {
      normalise(attributes, of, "sum");
    } catch (const Error& error) {
      return error.diagnostic().code + "|" + error.what();
    }
    return "none";
  };
  EXPECT_EQ(text({{"dmi", std::int64_t{1}}}, specs()),
            "unknown-attribute|sum: has no attribute 'dmi'\n  hint       did you mean 'dim'?");
  EXPECT_EQ(text({{"dim", 0.5}}, specs()),
            "attribute-type|sum: attribute 'dim' is 0.5, it takes an int\n  hint       the dim to reduce");
  EXPECT_EQ(
      text({{"dims", true}}, specs()),
      "attribute-type|sum: attribute 'dims' is true, it takes an int or a list of ints\n  hint       dims of the result");
  EXPECT_EQ(text({{"causal", std::int64_t{1}}}, specs()), "attribute-type|sum: attribute 'causal' is 1, it takes a bool");
  EXPECT_EQ(
      text({{"layout", std::string("BSDN")}}, specs()),
      "attribute-value|sum: attribute 'layout' is 'BSDN', it takes BSND, BNSD, TND\n  hint       did you mean 'BSND'?");
  EXPECT_EQ(text({}, required()), "missing-attribute|sum: attribute 'heads' is missing\n  hint       how many heads");
  EXPECT_EQ(text({{"heads", {}}}, required()),
            "missing-attribute|sum: attribute 'heads' cannot be none\n  hint       how many heads");
  EXPECT_EQ(text({{"dim", std::int64_t{1}}, {"axis", std::int64_t{1}}}, specs()),
            "duplicate-attribute|attribute 'dim' is given twice");
}

}  // namespace
}  // namespace tessera
