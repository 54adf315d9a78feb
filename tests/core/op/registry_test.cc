// The registry: operators by name and alias.
#include "core/op/registry.h"

#include <gmock/gmock.h>

#include <thread>

#include "testing/matchers.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;

DistributedOp named(const std::string& name, std::vector<std::string> aliases = {}) {
  DistributedOp op;
  op.name = name;
  op.rule = "x[m] -> out[m]";
  op.aliases = std::move(aliases);
  return op;
}

TEST(Registry, FindsByNameAndAlias) {
  Registry registry;
  const DistributedOp& relu = registry.add(named("relu", {"ReLU", "relu_"}));
  registry.add(named("abs"));
  EXPECT_EQ(registry.find("relu"), &relu);
  EXPECT_EQ(registry.find("ReLU"), &relu);
  EXPECT_EQ(&registry.get("relu_"), &relu);
  EXPECT_EQ(registry.find("gelu"), nullptr);
  EXPECT_THAT(registry.names(), ElementsAre("ReLU", "abs", "relu", "relu_"));
  ASSERT_EQ(registry.all().size(), 2u);
  EXPECT_EQ(registry.all()[0]->name, "abs");
}

TEST(Registry, KeepsOperatorsWhereTheyAre) {
  Registry registry;
  const DistributedOp* first = &registry.add(named("op0"));
  for (int i = 1; i < 1000; ++i) registry.add(named("op" + std::to_string(i)));
  EXPECT_EQ(registry.find("op0"), first);
  EXPECT_EQ(first->name, "op0");
}

TEST(Registry, UnknownNames) {
  Registry registry;
  registry.add(named("matmul"));
  EXPECT_THAT([&] { (void)registry.get("mamtul"); },
              FailsWith("unknown-op", "no operator is called 'mamtul'\n  hint       did you mean 'matmul'?"));
}

TEST(Registry, RefusesNamesThatAreTaken) {
  Registry registry;
  registry.add(named("relu", {"ReLU"}));
  EXPECT_THAT([&] { registry.add(named("relu")); },
              FailsWith("duplicate-op", "operator 'relu' is registered already\n  hint       give it another name"));
  EXPECT_THAT([&] { registry.add(named("ReLU")); },
              FailsWith("duplicate-op", "operator 'ReLU' is registered already, as an alias of 'relu'"));
  EXPECT_THAT([&] { registry.add(named("abs", {"relu"})); },
              FailsWith("duplicate-op", "operator 'relu' is registered already"));
  EXPECT_THAT([&] { registry.add(named("abs", {"abs"})); },
              FailsWith("duplicate-op", "operator 'abs' is registered already"));
  EXPECT_THAT([&] { registry.add(named("")); }, FailsWith("op-name", "an operator's name is empty"));
  EXPECT_THAT([&] { registry.add(named("abs", {""})); }, FailsWith("op-name"));
  EXPECT_EQ(registry.find("abs"), nullptr) << "what is refused leaves nothing behind";
}

TEST(Registry, OperatorsByTheirRuleAlone) {
  Registry registry;
  const DistributedOp& op = registry.add_rule("mine", "a b -> b a");
  EXPECT_EQ(to_string(op.rule), "a b -> b a");
  EXPECT_FALSE(op.kernel);
  EXPECT_THAT([&] { registry.add_rule("other", "a b > b a"); }, FailsWith("rule-syntax", "expected ',' or '->'"));
  EXPECT_THAT([&] { registry.add_rule("mine", "a -> a"); }, FailsWith("duplicate-op"));
}

TEST(Registry, ServesThreads) {
  Registry registry;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&registry, t] {
      for (int i = 0; i < 100; ++i) {
        const std::string name = "op" + std::to_string(t) + "_" + std::to_string(i);
        const DistributedOp* added = &registry.add(named(name));
        EXPECT_EQ(registry.find(name), added);
        EXPECT_NE(registry.find(t == 0 ? "op0_0" : name), nullptr);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry.all().size(), 400u);
}

TEST(LoadLibrary, WhatIsNoLibrary) {
  Registry registry;
  EXPECT_THAT([&] { load_library(registry, "no/such/library.so"); },
              FailsWith("library-open", "cannot load no/such/library.so: "));
  EXPECT_THAT([&] { load_library(registry, "libm.so.6"); },
              FailsWith("library-symbol", "libm.so.6 has no function tessera_register"));
}

}  // namespace
}  // namespace tessera
