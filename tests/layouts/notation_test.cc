// layouts/notation.h: every layout of small meshes through every notation and back, and what a wrong text is told.
#include "layouts/notation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/layouts/spaces.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using TensorMap = std::vector<std::vector<std::int64_t>>;
using Texts = std::vector<std::string>;

const DeviceMesh& mesh() {
  static const DeviceMesh mesh({{"dp", 2}, {"cp", 4}, {"tp", 2}});
  return mesh;
}

// A text and all that is said about it.
struct Fault {
  std::string text;
  std::string said;
};

// --- Our own text -----------------------------------------------------------------------------------------------------------

TEST(Text, IsOneFormForOneLayout) {
  for (const std::string text :
       {"[]", "[-]", "[dp]", "[dp, cp+tp, -]", "[tp+dp]", "[dp, cp:head_tail, -]", "[cp:cyclic(128)]",
        "[cp+dp:balanced, -]", "[dp:intervals(0-5 9-12 | 5-9)]", "[dp:intervals(0-5 | )]", "[dp:intervals( | 0-5)]",
        "[-, -] partial(dp: sum)", "[cp] partial(dp: max, tp: softmax)"}) {
    EXPECT_EQ(to_string(parse_layout(mesh(), text)), text);
  }
}

TEST(Text, MayHaveBlanksAnywhereAndSayBlock) {
  EXPECT_EQ(parse_layout(mesh(), "[dp,cp+tp,-]"), parse_layout(mesh(), "[dp, cp+tp, -]"));
  EXPECT_EQ(parse_layout(mesh(), "  [ dp ,\tcp + tp\n, - ]  "), parse_layout(mesh(), "[dp, cp+tp, -]"));
  EXPECT_EQ(parse_layout(mesh(), "[dp:block]partial(tp:sum,cp : max)"),
            parse_layout(mesh(), "[dp] partial(cp: max, tp: sum)"));
  EXPECT_EQ(parse_layout(mesh(), "[dp : cyclic ( 2 )]"), parse_layout(mesh(), "[dp:cyclic(2)]"));
  EXPECT_EQ(parse_layout(mesh(), "[dp:intervals(0-5 9 - 12|5-9)]"), parse_layout(mesh(), "[dp:intervals(0-5 9-12 | 5-9)]"));
}

// All layouts of rank <= 2, dealt in every way, with every pending reduction.
void for_each_case(const std::function<void(const Layout&)>& check) {
  for (const DeviceMesh small : {DeviceMesh({{"a", 2}, {"b", 2}}), DeviceMesh({{"a", 2}, {"b", 3}, {"c", 1}})}) {
    for (const Shape& shape : {Shape{}, Shape{7}, Shape{4, 3}}) {
      for_each_dealt_layout(small, shape, [&](const Layout& layout) {
        for_each_partial(layout, [&](const Layout& with) {
          if (!testing::Test::HasFailure()) check(with);
        });
      });
    }
  }
}

TEST(Text, OfEveryLayoutIsReadBack) {
  int count = 0;
  for_each_case([&](const Layout& layout) {
    ++count;
    const std::string text = to_string(layout);
    EXPECT_EQ(parse_layout(layout.mesh(), text), layout) << text;
    EXPECT_EQ(to_string(parse_layout(layout.mesh(), text)), text);
  });
  EXPECT_GT(count, 5000);
}

// Each text cut short or with one character changed is read or refused, and what is read can be written again.
void expect_robust(const std::string& text, const std::function<Layout(const std::string&)>& read) {
  Texts texts;
  for (std::size_t i = 0; i <= text.size(); ++i) texts.push_back(text.substr(0, i));
  for (std::size_t i = 0; i < text.size(); ++i) {
    texts.push_back(text.substr(0, i) + text.substr(i + 1));
    for (const char c : std::string("[](){}<>@:,+-|?\"'=0_9 px\n\x01\xff")) {
      std::string changed = text;
      changed[i] = c;
      texts.push_back(changed);
      texts.push_back(text.substr(0, i) + c + text.substr(i));
    }
  }
  for (const std::string& changed : texts) {
    try {
      const Layout layout = read(changed);
      EXPECT_EQ(parse_layout(layout.mesh(), to_string(layout)), layout) << changed;
    } catch (const Error& error) {
      EXPECT_NE(error.diagnostic().code, "") << changed;
      ASSERT_EQ(error.diagnostic().details.size(), 1U) << changed;
      EXPECT_EQ(error.diagnostic().details.front().label, "text") << changed;
      EXPECT_NE(error.diagnostic().details.front().text.find('^'), std::string::npos) << changed;
    }
  }
}

TEST(Text, IsReadOrRefusedWhateverItIs) {
  const auto read = [](const std::string& text) { return parse_layout(mesh(), text); };
  expect_robust("[dp, cp+tp:cyclic(12), -]", read);
  expect_robust("[dp:intervals(0-5 9-12 | 5-9)] partial(tp: sum, cp: softmax)", read);
  expect_robust(R"(<@mesh, [{"dp", ?}p1, {?}, {}], replicated={"cp"}, unreduced={"tp"}>)", read);
  expect_robust(R"(#sdy.sharding<@"a b", [{"dp"}]>)", read);
  expect_robust(std::string(3, '\0'), read);
}

TEST(TextFault, IsShownWithACaret) {
  const std::vector<Fault> faults{
      {"",
       "layout-syntax: expected '[', or '<' of Shardy's form, found the end\n"
       "  text       \n"
       "             ^"},
      {"dp",
       "layout-syntax: expected '[', or '<' of Shardy's form, found 'dp'\n"
       "  text       dp\n"
       "             ^^"},
      {"[",
       "layout-syntax: expected an axis or '-', found the end\n"
       "  text       [\n"
       "              ^"},
      {"[dp",
       "layout-syntax: expected ',' or ']', found the end\n"
       "  text       [dp\n"
       "                ^"},
      {"[dp cp]",
       "layout-syntax: expected ',' or ']', found 'cp'\n"
       "  text       [dp cp]\n"
       "                 ^^"},
      {"[dp,]",
       "layout-syntax: expected an axis or '-', found ']'\n"
       "  text       [dp,]\n"
       "                 ^"},
      {"[,]",
       "layout-syntax: expected an axis or '-', found ','\n"
       "  text       [,]\n"
       "              ^"},
      {"[dp, qp]",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'qp'\n"
       "  text       [dp, qp]\n"
       "                  ^^\n"
       "  hint       did you mean 'dp'?"},
      {"[dp, +]",
       "layout-syntax: expected an axis or '-', found '+'\n"
       "  text       [dp, +]\n"
       "                  ^"},
      {"[dp+, -]",
       "layout-syntax: expected an axis, found ','\n"
       "  text       [dp+, -]\n"
       "                 ^"},
      {"[dp, dp]",
       "duplicate-axis: axis 'dp' splits the tensor twice\n"
       "  text       [dp, dp]\n"
       "                  ^^\n"
       "  hint       an axis splits one dim at most"},
      {"[dp+dp]",
       "duplicate-axis: axis 'dp' splits the tensor twice\n"
       "  text       [dp+dp]\n"
       "                 ^^\n"
       "  hint       an axis splits one dim at most"},
      {"[-:balanced]",
       "layout-syntax: expected ',' or ']', found ':'\n"
       "  text       [-:balanced]\n"
       "               ^"},
      {"[dp:]",
       "layout-syntax: expected a distribution, found ']'\n"
       "  text       [dp:]\n"
       "                 ^"},
      {"[dp:foo]",
       "distribution-unknown: no distribution is called 'foo'\n"
       "  text       [dp:foo]\n"
       "                 ^^^\n"
       "  hint       known: block, balanced, cyclic, head_tail, intervals"},
      {"[dp:head_tial]",
       "distribution-unknown: no distribution is called 'head_tial'\n"
       "  text       [dp:head_tial]\n"
       "                 ^^^^^^^^^\n"
       "  hint       did you mean 'head_tail'?"},
      {"[dp:cyclic]",
       "layout-syntax: expected '(' and the size of a block, found ']'\n"
       "  text       [dp:cyclic]\n"
       "                       ^"},
      {"[dp:cyclic()]",
       "layout-syntax: expected the size of a block, found ')'\n"
       "  text       [dp:cyclic()]\n"
       "                        ^"},
      {"[dp:cyclic(0)]",
       "distribution-block: cyclic(0) needs a block of at least 1\n"
       "  text       [dp:cyclic(0)]\n"
       "                 ^^^^^^^^^"},
      {"[dp:cyclic(99999999999999999999)]",
       "layout-syntax: the number does not fit in 64 bits\n"
       "  text       [dp:cyclic(99999999999999999999)]\n"
       "                        ^^^^^^^^^^^^^^^^^^^^"},
      {"[dp:cyclic(2]",
       "layout-syntax: expected ')', found ']'\n"
       "  text       [dp:cyclic(2]\n"
       "                         ^"},
      {"[dp:intervals(0-5)]",
       "distribution-intervals: dim 0 lists intervals for 1 shards, its axes make 2\n"
       "  text       [dp:intervals(0-5)]\n"
       "              ^^^^^^^^^^^^^^^^^\n"
       "  hint       list one set of intervals for each shard"},
      {"[-, dp:intervals(0-5 | 6-9)]",
       "distribution-intervals: no shard owns indices [5, 6)\n"
       "  text       [-, dp:intervals(0-5 | 6-9)]\n"
       "                    ^^^^^^^^^^^^^^^^^^^^\n"
       "  hint       each index belongs to one shard"},
      {"[dp:intervals(0-5 | 5)]",
       "layout-syntax: expected '-' and the end of the interval, found ')'\n"
       "  text       [dp:intervals(0-5 | 5)]\n"
       "                                  ^"},
      {"[dp:intervals(0-5 ; 5-9)]",
       "layout-syntax: expected an interval such as 0-5, '|' or ')', found ';'\n"
       "  text       [dp:intervals(0-5 ; 5-9)]\n"
       "                               ^"},
      {"[dp:intervals(0-5 | 5-9",
       "layout-syntax: expected an interval such as 0-5, '|' or ')', found the end\n"
       "  text       [dp:intervals(0-5 | 5-9\n"
       "                                    ^"},
      {"[dp] x",
       "layout-syntax: expected 'partial' or the end, found 'x'\n"
       "  text       [dp] x\n"
       "                  ^"},
      {"[dp] partial",
       "layout-syntax: expected '(', found the end\n"
       "  text       [dp] partial\n"
       "                         ^"},
      {"[dp] partial()",
       "layout-syntax: expected an axis, found ')'\n"
       "  text       [dp] partial()\n"
       "                          ^"},
      {"[dp] partial(tp)",
       "layout-syntax: expected ':' and a reduction, found ')'\n"
       "  text       [dp] partial(tp)\n"
       "                            ^"},
      {"[dp] partial(tp: )",
       "layout-syntax: expected a reduction, found ')'\n"
       "  text       [dp] partial(tp: )\n"
       "                              ^"},
      {"[dp] partial(tp: sm)",
       "unknown-partial: no reduction is called 'sm'\n"
       "  text       [dp] partial(tp: sm)\n"
       "                              ^^\n"
       "  hint       did you mean 'sum'?"},
      {"[dp] partial(tp: sum, tp: max)",
       "duplicate-axis: axis 'tp' is partial twice\n"
       "  text       [dp] partial(tp: sum, tp: max)\n"
       "                                   ^^\n"
       "  hint       name each axis once"},
      {"[dp] partial(dp: sum)",
       "duplicate-axis: axis 'dp' both splits the tensor and is partial\n"
       "  text       [dp] partial(dp: sum)\n"
       "                          ^^\n"
       "  hint       an axis either splits a dim or has a pending reduction"},
      {"[dp] partial(xp: sum)",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'xp'\n"
       "  text       [dp] partial(xp: sum)\n"
       "                          ^^\n"
       "  hint       did you mean 'dp'?"},
      {"[dp] partial(tp: sum",
       "layout-syntax: expected ',' or ')', found the end\n"
       "  text       [dp] partial(tp: sum\n"
       "                                 ^"},
      {"[dp] partial(tp: sum) more",
       "layout-syntax: expected the end, found 'more'\n"
       "  text       [dp] partial(tp: sum) more\n"
       "                                   ^^^^"},
      {"[-,-,-,-,-,-,-,-,-,-,-,-,-]",
       "rank-too-large: a tensor has at most 12 dims, this layout is for 13\n"
       "  text       [-,-,-,-,-,-,-,-,-,-,-,-,-]\n"
       "              ^^^^^^^^^^^^^^^^^^^^^^^^^"},
      {"[dp,\n\tqp]",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'qp'\n"
       "  text       [dp,  qp]\n"
       "                   ^^\n"
       "  hint       did you mean 'dp'?"},
      {"[dp\x01]",
       "layout-syntax: expected ',' or ']', found a control character\n"
       "  text       [dp ]\n"
       "                ^"},
      {"<",
       "layout-syntax: expected '@' and the name of the mesh, found the end\n"
       "  text       <\n"
       "              ^"},
      {"<@",
       "layout-syntax: expected the name of the mesh, found the end\n"
       "  text       <@\n"
       "               ^"},
      {"<@mesh",
       "layout-syntax: expected ',', found the end\n"
       "  text       <@mesh\n"
       "                   ^"},
      {"<@mesh,",
       "layout-syntax: expected '[' and the dims, found the end\n"
       "  text       <@mesh,\n"
       "                    ^"},
      {"<@mesh, [",
       "layout-syntax: expected '{' and the axes of a dim, found the end\n"
       "  text       <@mesh, [\n"
       "                      ^"},
      {"<@mesh, [{\"dp\"}]",
       "layout-syntax: expected ',' or '>', found the end\n"
       "  text       <@mesh, [{\"dp\"}]\n"
       "                             ^"},
      {"<@mesh, [{\"dp}]>",
       "layout-syntax: nothing closes the \"\n"
       "  text       <@mesh, [{\"dp}]>\n"
       "                       ^^^^^^"},
      {"<@mesh, [{\"dq\"}]>",
       "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'dq'\n"
       "  text       <@mesh, [{\"dq\"}]>\n"
       "                       ^^^^\n"
       "  hint       did you mean 'dp'?"},
      {"<@mesh, [{dp}]>",
       "layout-syntax: expected an axis in quotes, '?' or '}', found 'dp'\n"
       "  text       <@mesh, [{dp}]>\n"
       "                       ^^"},
      {"<@mesh, [{\"dp\" \"cp\"}]>",
       "layout-syntax: expected an axis in quotes, '?' or '}', found '\"'\n"
       "  text       <@mesh, [{\"dp\" \"cp\"}]>\n"
       "                            ^"},
      {"<@mesh, [{\"dp\":(1)2}]>",
       "layout-syntax: a part of axis 'dp' cannot be used alone\n"
       "  text       <@mesh, [{\"dp\":(1)2}]>\n"
       "                       ^^^^^\n"
       "  hint       split mesh axis 'dp' in two"},
      {"<@mesh, [{\"dp\"}, {\"dp\"}]>",
       "duplicate-axis: axis 'dp' splits the tensor twice\n"
       "  text       <@mesh, [{\"dp\"}, {\"dp\"}]>\n"
       "                               ^^^^\n"
       "  hint       an axis splits one dim at most"},
      {"<@mesh, [{\"dp\"}], replicated={\"dp\"}>",
       "duplicate-axis: axis 'dp' both splits the tensor and is replicated\n"
       "  text       <@mesh, [{\"dp\"}], replicated={\"dp\"}>\n"
       "                                           ^^^^\n"
       "  hint       a replicated axis has no other use"},
      {"<@mesh, [{\"dp\"}], unreduced={\"dp\"}>",
       "duplicate-axis: axis 'dp' both splits the tensor and is partial\n"
       "  text       <@mesh, [{\"dp\"}], unreduced={\"dp\"}>\n"
       "                                          ^^^^\n"
       "  hint       an axis either splits a dim or has a pending reduction"},
      {"<@mesh, [{\"dp\"}], replicated={\"tp\"}, unreduced={\"tp\"}>",
       "duplicate-axis: axis 'tp' is both replicated and partial\n"
       "  text       <@mesh, [{\"dp\"}], replicated={\"tp\"}, unreduced={\"tp\"}>\n"
       "                                                             ^^^^\n"
       "  hint       a replicated axis has no other use"},
      {"<@mesh, [{\"dp\"}], foo={\"dp\"}>",
       "layout-syntax: expected 'replicated' or 'unreduced', found 'foo'\n"
       "  text       <@mesh, [{\"dp\"}], foo={\"dp\"}>\n"
       "                               ^^^"},
      {"<@mesh, [{\"dp\"}p]>",
       "layout-syntax: expected a priority, found ']'\n"
       "  text       <@mesh, [{\"dp\"}p]>\n"
       "                             ^"},
      {"<@mesh, [{\"dp\"}p99999999999999999999]>",
       "layout-syntax: the number does not fit in 64 bits\n"
       "  text       <@mesh, [{\"dp\"}p99999999999999999999]>\n"
       "                             ^^^^^^^^^^^^^^^^^^^^"},
      {"<@mesh, [{\"dp\"}]> x",
       "layout-syntax: expected the end, found 'x'\n"
       "  text       <@mesh, [{\"dp\"}]> x\n"
       "                               ^"},
      {"<@mesh, [{?, \"dp\"}]>",
       "layout-syntax: expected an axis in quotes, '?' or '}', found ','\n"
       "  text       <@mesh, [{?, \"dp\"}]>\n"
       "                        ^"},
      {"#foo",
       "layout-syntax: expected '<', found '#'\n"
       "  text       #foo\n"
       "             ^"},
  };
  for (const auto& [text, said] : faults) {
    EXPECT_EQ(fault_text([&text = text] { parse_layout(mesh(), text); }), said) << text;
  }
}

TEST(TextFault, KnowsItsDimAndAxes) {
  const Diagnostic unknown = fault_of([] { parse_layout(mesh(), "[-, qp]"); });
  EXPECT_EQ(unknown.dim, 1);
  EXPECT_THAT(unknown.axes, ElementsAre("qp"));
  const Diagnostic twice = fault_of([] { parse_layout(mesh(), R"(<@mesh, [{}, {}, {"tp", "tp"}]>)"); });
  EXPECT_EQ(twice.dim, 2);
  EXPECT_THAT(twice.axes, ElementsAre("tp"));
  const Diagnostic pending = fault_of([] { parse_layout(mesh(), "[dp] partial(tp: summ)"); });
  EXPECT_EQ(pending.dim, -1);
  EXPECT_THAT(pending.axes, ElementsAre("tp"));
}

TEST(TextFault, InALongTextShowsWhatIsNear) {
  std::string text = "[-";
  for (int i = 0; i < 100; ++i) text += ", -";
  text += ", qp";
  for (int i = 0; i < 100; ++i) text += ", -";
  const std::string blank(20, ' ');
  EXPECT_EQ(fault_text([&] { parse_layout(mesh(), text + "]"); }),
            "unknown-axis: the mesh (dp=2 x cp=4 x tp=2) has no axis 'qp'\n"
            "  text       ...-, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, "
            "qp, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -, -...\n"
            "             " +
                blank + blank + blank +
                "   ^^\n"
                "  hint       did you mean 'dp'?");
}

TEST(TextFault, CountsLettersNotBytes) {
  EXPECT_EQ(fault_text([] { parse_layout(mesh(), "<@\"\u00e9\u00e9\", [{dp}]>"); }),
            "layout-syntax: expected an axis in quotes, '?' or '}', found 'dp'\n"
            "  text       <@\"\u00e9\u00e9\", [{dp}]>\n"
            "                       ^^");
  EXPECT_EQ(fault_text([] { parse_layout(mesh(), "[\u00e9]"); }),
            "layout-syntax: expected an axis or '-', found '\u00e9'\n"
            "  text       [\u00e9]\n"
            "              ^");
}

// --- Shardy -----------------------------------------------------------------------------------------------------------------

TEST(Shardy, IsReadAndWritten) {
  EXPECT_EQ(to_shardy(parse_layout(mesh(), "[dp, cp+tp, -]")), R"(<@mesh, [{"dp"}, {"cp", "tp"}, {}]>)");
  EXPECT_EQ(to_shardy(parse_layout(mesh(), "[dp] partial(cp: sum, tp: sum)")),
            R"(<@mesh, [{"dp"}], unreduced={"cp", "tp"}>)");
  EXPECT_EQ(to_shardy(parse_layout(mesh(), "[]")), "<@mesh, []>");
  EXPECT_EQ(parse_layout(mesh(), R"(<@mesh, [{"dp"}, {"cp", "tp"}, {}]>)"), parse_layout(mesh(), "[dp, cp+tp, -]"));
}

TEST(Shardy, MayHaveOpenDimsPrioritiesAndReplicatedAxes) {
  const Layout layout = parse_layout(mesh(), "[dp, cp, -]");
  EXPECT_EQ(parse_layout(mesh(), R"(<@mesh, [{"dp", ?}, {"cp"}p1, {?}]>)"), layout);
  EXPECT_EQ(parse_layout(mesh(), R"(<@mesh, [{"dp", ?}p0, {"cp"}, {}], replicated={"tp"}>)"), layout);
  EXPECT_EQ(parse_layout(mesh(), R"(#sdy.sharding<@mesh,[{"dp"},{"cp"},{}],replicated={},unreduced={}>)"), layout);
  EXPECT_EQ(parse_layout(mesh(), R"(<@"my mesh", [{"dp"}, {"cp"}, {}], unreduced={"tp"}>)"),
            parse_layout(mesh(), "[dp, cp, -] partial(tp: sum)"));
}

TEST(Shardy, OfEveryLayoutIsReadBackOrRefused) {
  int written = 0;
  for_each_case([&](const Layout& layout) {
    bool can = true;
    for (int dim = 0; dim < layout.rank(); ++dim) can = can && layout.distribution(dim).is_block();
    for (int axis = 0; axis < layout.mesh().axis_count(); ++axis) {
      can = can && (layout.partials()[axis] == Partial::kNone || layout.partials()[axis] == Partial::kSum);
    }
    if (can) {
      ++written;
      EXPECT_EQ(parse_layout(layout.mesh(), to_shardy(layout)), layout) << to_string(layout);
    } else {
      EXPECT_EQ(fault_of([&] { to_shardy(layout); }).code, "no-shardy") << to_string(layout);
    }
  });
  EXPECT_GT(written, 200);
}

TEST(ShardyFault, IsWhatItCannotSay) {
  const Diagnostic dealt = fault_of([] { to_shardy(parse_layout(mesh(), "[-, dp:head_tail]")); });
  EXPECT_EQ(dealt.code, "no-shardy");
  EXPECT_EQ(to_string(dealt), "Shardy deals dims in blocks, dim 1 of [-, dp:head_tail] is dealt head_tail");
  EXPECT_EQ(dealt.dim, 1);
  EXPECT_THAT(dealt.axes, ElementsAre("dp"));
  const Diagnostic reduced = fault_of([] { to_shardy(parse_layout(mesh(), "[dp] partial(cp: sum, tp: max)")); });
  EXPECT_EQ(to_string(reduced),
            "Shardy's pending reductions are sums, that of [dp] partial(cp: sum, tp: max) over 'tp' is max");
  EXPECT_THAT(reduced.axes, ElementsAre("tp"));
}

// --- Tensor maps ------------------------------------------------------------------------------------------------------------

TEST(TensorMapNumbers, CountFromTheLastAxis) {
  EXPECT_EQ(to_tensor_map(parse_layout(mesh(), "[dp, cp+tp, -]")), (TensorMap{{2}, {1, 0}, {-1}}));
  EXPECT_EQ(layout_from_tensor_map(mesh(), TensorMap{{2}, {1, 0}, {-1}}), parse_layout(mesh(), "[dp, cp+tp, -]"));
  EXPECT_EQ(layout_from_tensor_map(mesh(), TensorMap{{}, {0}}), parse_layout(mesh(), "[-, tp]"));
  EXPECT_THAT(to_tensor_map(Layout()), IsEmpty());
}

TEST(TensorMapNumbers, OfEveryLayoutAreReadBack) {
  for (int rank = 0; rank <= 3; ++rank) {
    for_each_layout(mesh(), rank, [](const Layout& layout) {
      EXPECT_EQ(layout_from_tensor_map(mesh(), to_tensor_map(layout)), layout);
      for_each_partial(layout, [](const Layout& with) {
        EXPECT_EQ(layout_from_tensor_map(mesh(), to_tensor_map(with), with.partials()), with);
      });
    });
  }
}

TEST(TensorMapFault, IsANumberThatIsNoAxis) {
  const auto said = [](const TensorMap& map) { return fault_text([&] { layout_from_tensor_map(mesh(), map); }); };
  EXPECT_EQ(said({{3}}),
            "unknown-axis: tensor map number 3 is no axis of the mesh (dp=2 x cp=4 x tp=2)\n"
            "  hint       numbers count from the last axis: 0 is 'tp', 1 is 'cp', 2 is 'dp'");
  EXPECT_EQ(said({{0}, {-2}}),
            "unknown-axis: tensor map number -2 is no axis of the mesh (dp=2 x cp=4 x tp=2)\n"
            "  hint       numbers count from the last axis: 0 is 'tp', 1 is 'cp', 2 is 'dp'");
  EXPECT_EQ(
      said({{0, -1}}),
      "layout-syntax: tensor map entry [0, -1] has -1 beside other numbers\n  hint       -1 alone is a dim that is whole");
  EXPECT_EQ(said({{0, 0}}),
            "duplicate-axis: axis 'tp' splits the tensor twice\n  hint       an axis splits one dim at most");
  EXPECT_EQ(said({{0}, {0}}),
            "duplicate-axis: axis 'tp' splits the tensor twice\n  hint       an axis splits one dim at most");
  EXPECT_EQ(said(TensorMap(13, {-1})), "rank-too-large: a tensor has at most 12 dims, this layout is for 13");
  EXPECT_EQ(said({std::vector<std::int64_t>(100, 1)}),
            "duplicate-axis: axis 'cp' splits the tensor twice\n  hint       an axis splits one dim at most");
  EXPECT_EQ(fault_text([] { layout_from_tensor_map(DeviceMesh(), TensorMap{{0}}); }),
            "unknown-axis: tensor map number 0 is no axis of the mesh (one device)\n"
            "  hint       the mesh has no axes: write -1");
  EXPECT_EQ(fault_of([] { layout_from_tensor_map(mesh(), TensorMap{{0}, {5}}); }).dim, 1);
}

TEST(AxisNames, AreThoseOfEachDim) {
  EXPECT_THAT(to_axis_names(parse_layout(mesh(), "[dp, cp+tp, -]")), ElementsAre(Texts{"dp"}, Texts{"cp", "tp"}, Texts{}));
  EXPECT_THAT(to_axis_names(Layout()), IsEmpty());
}

// --- Placements -------------------------------------------------------------------------------------------------------------

TEST(Placements, AreOneForEachAxis) {
  EXPECT_THAT(to_placements(parse_layout(mesh(), "[dp, -, cp+tp]")), ElementsAre("Shard(0)", "Shard(2)", "Shard(2)"));
  EXPECT_THAT(to_placements(parse_layout(mesh(), "[dp] partial(tp: sum)")),
              ElementsAre("Shard(0)", "Replicate", "Partial(sum)"));
  EXPECT_THAT(to_placements(Layout()), IsEmpty());
  const DeviceMesh two({{"dp", 2}, {"tp", 4}});
  EXPECT_THAT(to_placements(parse_layout(two, "[tp+dp]")), ElementsAre("_StridedShard(0, 4)", "Shard(0)"));
  EXPECT_EQ(layout_from_placements(two, 1, Texts{"_StridedShard(0, 4)", "Shard(0)"}), parse_layout(two, "[tp+dp]"));
}

TEST(Placements, HaveTheSpellingsOfPyTorch) {
  const DeviceMesh two({{"a", 2}, {"b", 2}});
  const auto read = [&](const std::string& of_a, const std::string& of_b) {
    return to_string(layout_from_placements(two, 2, Texts{of_a, of_b}));
  };
  for (const char* shard :
       {"Shard(0)", "Shard(dim=0)", "S(0)", "Shard(-2)", "Shard(dim=-2)", " Shard ( 0 ) ", "_StridedShard(0, 1)"}) {
    for (const char* replicate : {"Replicate", "Replicate()", "R"}) EXPECT_EQ(read(shard, replicate), "[a, -]");
  }
  for (const char* sum : {"Partial", "Partial()", "Partial(sum)", "P", "P(sum)", "Partial('sum')", "Partial(\"sum\")",
                          "Partial(reduce_op=sum)", "Partial(reduce_op='sum')"}) {
    EXPECT_EQ(read(sum, "R"), "[-, -] partial(a: sum)");
  }
  EXPECT_EQ(read("Partial(avg)", "Partial(product)"), "[-, -] partial(a: avg, b: prod)");
  for (const char* strided : {"_StridedShard(0, 2)", "_StridedShard(dim=0, sf=2)", "_StridedShard(dim=0, split_factor=2)",
                              "_StridedShard(dim=-2,split_factor=2)", "_S(0, 2)"}) {
    EXPECT_EQ(read(strided, "Shard(0)"), "[b+a, -]");
  }
}

// The shard of a rank as PyTorch finds it: each mesh axis from the left cuts what is left; a strided one deals `factor` runs of chunks.
std::vector<std::int64_t> shard_by_placements(DeviceMesh on, const std::vector<std::pair<bool, std::int64_t>>& factors,
                                              const Coordinate& coordinate, std::int64_t n) {
  std::vector<std::int64_t> held;
  for (std::int64_t i = 0; i < n; ++i) held.push_back(i);
  for (int axis = 0; axis < on.axis_count(); ++axis) {
    const auto [splits, factor] = factors[static_cast<std::size_t>(axis)];
    if (!splits) continue;
    const std::int64_t chunk = static_cast<std::int64_t>(held.size()) / (factor * on.size(axis));
    std::vector<std::int64_t> kept;
    for (std::int64_t run = 0; run < factor; ++run) {
      const std::int64_t begin = (run * on.size(axis) + coordinate[static_cast<std::size_t>(axis)]) * chunk;
      kept.insert(kept.end(), held.begin() + begin, held.begin() + begin + chunk);
    }
    held = kept;
  }
  return held;
}

TEST(Placements, OfAllOrdersOfFourAxesOnOneDimAreReadBackAndMeanWhatPyTorchMeans) {
  for (const DeviceMesh four :
       {DeviceMesh({{"a", 2}, {"b", 3}, {"c", 2}, {"d", 5}}), DeviceMesh({{"a", 2}, {"b", 2}, {"c", 2}, {"d", 2}})}) {
    int orders = 0;
    for (const AxisList axes : axis_lists(four)) {
      const std::vector<DimSplit> dims{{axes, {}}};
      const Layout layout(four, dims);
      const Texts placements = to_placements(layout);
      ASSERT_EQ(layout_from_placements(four, 1, placements), layout) << to_string(layout);
      orders += axes.size() == 4 ? 1 : 0;

      std::vector<std::pair<bool, std::int64_t>> factors;
      for (const std::string& placement : placements) {
        const bool strided = placement.starts_with("_StridedShard(0, ");
        factors.emplace_back(placement != "Replicate", strided ? std::stoll(placement.substr(17)) : 1);
      }
      const std::int64_t n = four.device_count() * 2;
      for (const Coordinate& coordinate : coordinates_of(four)) {
        ASSERT_EQ(shard_by_placements(four, factors, coordinate, n),
                  listed_indices(shard_of(layout, {n}, coordinate).front()))
            << to_string(layout);
      }
    }
    EXPECT_EQ(orders, 24);
  }
}

TEST(Placements, OfEveryLayoutAreReadBackOrRefused) {
  int written = 0;
  for_each_case([&](const Layout& layout) {
    bool blocks = true;
    for (int dim = 0; dim < layout.rank(); ++dim) blocks = blocks && layout.distribution(dim).is_block();
    if (!blocks) {
      EXPECT_EQ(fault_of([&] { to_placements(layout); }).code, "no-placement") << to_string(layout);
      return;
    }
    ++written;
    const Layout back = layout_from_placements(layout.mesh(), layout.rank(), to_placements(layout));
    // Where an axis of size 1 stands among the others is not said by placements, and changes nothing.
    for (const Coordinate& coordinate : coordinates_of(layout.mesh())) {
      const Shape shape(static_cast<std::size_t>(layout.rank()), 12);
      EXPECT_EQ(shard_of(back, shape, coordinate), shard_of(layout, shape, coordinate)) << to_string(layout);
    }
    EXPECT_EQ(back.partials(), layout.partials());
    EXPECT_TRUE(layout.mesh().axis_count() == 3 || back == layout) << to_string(layout);
  });
  EXPECT_GT(written, 200);
}

TEST(PlacementFault, IsShownWithACaret) {
  const std::vector<Fault> faults{
      {"",
       "placement-syntax: expected a placement, found the end\n"
       "  text       \n"
       "             ^"},
      {"Shard",
       "placement-syntax: expected '(' and a dim, found the end\n"
       "  text       Shard\n"
       "                  ^"},
      {"Shard()",
       "placement-syntax: expected a dim, found ')'\n"
       "  text       Shard()\n"
       "                   ^"},
      {"Shard(2)",
       "placement-dim: dim 2 is out of bounds for a tensor of 2 dims\n"
       "  text       Shard(2)\n"
       "                   ^\n"
       "  hint       dims are -2 to 1"},
      {"Shard(-3)",
       "placement-dim: dim -3 is out of bounds for a tensor of 2 dims\n"
       "  text       Shard(-3)\n"
       "                   ^^\n"
       "  hint       dims are -2 to 1"},
      {"Shard(0",
       "placement-syntax: expected ')', found the end\n"
       "  text       Shard(0\n"
       "                    ^"},
      {"Shard(x)",
       "placement-syntax: expected a dim, found 'x'\n"
       "  text       Shard(x)\n"
       "                   ^"},
      {"Shard(dim)",
       "placement-syntax: expected '=', found ')'\n"
       "  text       Shard(dim)\n"
       "                      ^"},
      {"Shrad(0)",
       "placement-syntax: no placement is called 'Shrad'\n"
       "  text       Shrad(0)\n"
       "             ^^^^^\n"
       "  hint       did you mean 'Shard'?"},
      {"Shard(0) x",
       "placement-syntax: expected the end, found 'x'\n"
       "  text       Shard(0) x\n"
       "                      ^"},
      {"Partial(foo)",
       "unknown-partial: no reduction is called 'foo'\n"
       "  text       Partial(foo)\n"
       "                     ^^^\n"
       "  hint       known: sum, avg, max, min, prod, any, all, softmax"},
      {"Partial(",
       "placement-syntax: expected a reduction, found the end\n"
       "  text       Partial(\n"
       "                     ^"},
      {"Partial('sum)",
       "placement-syntax: nothing closes the '\n"
       "  text       Partial('sum)\n"
       "                     ^^^^^"},
      {"Partial(summ)",
       "unknown-partial: no reduction is called 'summ'\n"
       "  text       Partial(summ)\n"
       "                     ^^^^\n"
       "  hint       did you mean 'sum'?"},
      {"_StridedShard(0)",
       "placement-syntax: expected ',' and a split factor, found ')'\n"
       "  text       _StridedShard(0)\n"
       "                            ^"},
      {"_StridedShard(0, 3)",
       "placement-factor: no order of the axes that split dim 0 gives 'dp' the split factor 3\n"
       "  text       _StridedShard(0, 3)\n"
       "                              ^\n"
       "  hint       possible here: 1, 4"},
      {"_StridedShard(0, x)",
       "placement-syntax: expected a split factor, found 'x'\n"
       "  text       _StridedShard(0, x)\n"
       "                              ^"},
      {"_StridedShard(0, 0)",
       "placement-factor: no order of the axes that split dim 0 gives 'dp' the split factor 0\n"
       "  text       _StridedShard(0, 0)\n"
       "                              ^\n"
       "  hint       possible here: 1, 4"},
      {"Replicate(1)",
       "placement-syntax: expected ')', found '1'\n"
       "  text       Replicate(1)\n"
       "                       ^"},
      {"MaskPartial",
       "placement-syntax: no placement is called 'MaskPartial'\n"
       "  text       MaskPartial\n"
       "             ^^^^^^^^^^^\n"
       "  hint       known: Shard, Replicate, Partial, _StridedShard"},
      {"7",
       "placement-syntax: no placement is called '7'\n"
       "  text       7\n"
       "             ^\n"
       "  hint       known: Shard, Replicate, Partial, _StridedShard"},
  };
  for (const auto& [text, said] : faults) {
    EXPECT_EQ(fault_text([&text = text] {
                layout_from_placements(mesh(), 2, Texts{text, "Shard(0)", "Replicate"});
              }),
              said)
        << text;
  }
}

TEST(PlacementFault, KnowsItsAxis) {
  EXPECT_THAT(fault_of([] { layout_from_placements(mesh(), 2, Texts{"R", "Shard(2)", "R"}); }).axes, ElementsAre("cp"));
  EXPECT_THAT(fault_of([] { layout_from_placements(mesh(), 2, Texts{"R", "R", "Partial(x)"}); }).axes, ElementsAre("tp"));
  const Diagnostic factor = fault_of([] {
    layout_from_placements(mesh(), 2, Texts{"_StridedShard(1, 5)", "Shard(1)", "R"});
  });
  EXPECT_THAT(factor.axes, ElementsAre("dp"));
  EXPECT_EQ(factor.dim, 1);
}

TEST(PlacementFault, IsANumberOfThemOrADimThatDoesNotFit) {
  EXPECT_EQ(fault_text([] { layout_from_placements(mesh(), 2, Texts{"R"}); }),
            "placement-count: 1 placements for the 3 axes of the mesh (dp=2 x cp=4 x tp=2)\n"
            "  hint       write one placement for each mesh axis");
  EXPECT_EQ(fault_text([] {
              layout_from_placements(mesh(), 0, Texts{"S(0)", "R", "R"});
            }),
            "placement-dim: dim 0 is out of bounds for a tensor of 0 dims\n  text       S(0)\n               ^");
  EXPECT_EQ(fault_text([] {
              layout_from_placements(mesh(), 13, Texts{"R", "R", "R"});
            }),
            "rank-too-large: a tensor has at most 12 dims, this layout is for 13");
  EXPECT_EQ(fault_text([] { to_placements(parse_layout(mesh(), "[-, dp:head_tail]")); }),
            "no-placement: placements deal dims in blocks, dim 1 of [-, dp:head_tail] is dealt head_tail");
}

TEST(Placements, AreReadOrRefusedWhateverTheyAre) {
  for (const char* text :
       {"_StridedShard(dim=0, split_factor=2)", "Shard(dim=-1)", "Partial(reduce_op='sum')", "Replicate()"}) {
    expect_robust(text, [](const std::string& changed) {
      return layout_from_placements(DeviceMesh({{"a", 2}, {"b", 2}}), 2, Texts{changed, "Shard(0)"});
    });
  }
}

}  // namespace
}  // namespace tessera
