// .npy files: NumPy's own, ours, and broken ones.
#include "core/tensor/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/tensor/random.h"
#include "support/diagnostic.h"

namespace tessera {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::StartsWith;
using testing::StrEq;
using testing::ThrowsMessage;
using namespace std::string_literals;

// The bytes of a file whose header is `dictionary`, padded as NumPy pads it.
std::string npy(std::string dictionary, std::string_view elements, char version = 1) {
  const std::size_t before = version == 1 ? 10 : 12;
  dictionary.append(63 - (before + dictionary.size()) % 64, ' ');
  dictionary += '\n';
  std::string bytes = "\x93NUMPY"s + version + '\0';
  for (std::size_t i = 0; i < before - 8; ++i) bytes += static_cast<char>(dictionary.size() >> (8 * i));
  return bytes + dictionary + std::string(elements);
}

std::string header(std::string_view descr, std::string_view shape, std::string_view fortran = "False") {
  return "{'descr': '"s + std::string(descr) + "', 'fortran_order': " + std::string(fortran) +
         ", 'shape': " + std::string(shape) + ", }";
}

Tensor load(const std::string& bytes) {
  std::istringstream in(bytes);
  return load_npy(in, "x.npy");
}

std::string save(const Tensor& tensor) {
  std::ostringstream out;
  save_npy(tensor, out, "x.npy");
  return out.str();
}

// A stream that cannot tell how long it is, and gives a few bytes at a time.
class Pipe : public std::streambuf {
 public:
  explicit Pipe(std::string bytes) : bytes_(std::move(bytes)) {}

 protected:
  int_type underflow() override {
    if (at_ >= bytes_.size()) return traits_type::eof();
    const std::size_t count = std::min<std::size_t>(7, bytes_.size() - at_);
    setg(bytes_.data() + at_, bytes_.data() + at_, bytes_.data() + at_ + count);
    at_ += count;
    return traits_type::to_int_type(*gptr());
  }

 private:
  std::string bytes_;
  std::size_t at_ = 0;
};

// A folder of its own, gone at the end.
class NpyFileTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("tessera_npy_"s + test->name() + "_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

// What numpy.save of NumPy 2 wrote: np.asfortranarray(np.arange(6, dtype='i2').reshape(2, 3)).
const std::string kWrittenByNumpy = "\x93NUMPY\x01\0v\0{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3), }"s +
                                    std::string(59, ' ') + "\n\0\0\x03\0\x01\0\x04\0\x02\0\x05\0"s;

TEST(NpyTest, ReadsWhatNumpyWrote) {
  const Tensor tensor = load(kWrittenByNumpy);
  EXPECT_EQ(tensor.dtype(), DType::kI32);
  EXPECT_EQ(tensor.shape(), (Shape{2, 3}));
  EXPECT_TRUE(tensor.is_contiguous());
  EXPECT_THAT(tensor.span<std::int32_t>(), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(NpyTest, ReadsEveryElementType) {
  struct Case {
    std::string descr;
    std::string elements;  // 1 and, where there are such, -2
    DType dtype;
    std::vector<double> values;
  };
  const std::vector<Case> cases{
      {"<f4", "\0\0\x80\x3f\0\0\0\xc0"s, DType::kF32, {1, -2}},
      {">f4", "\x3f\x80\0\0\xc0\0\0\0"s, DType::kF32, {1, -2}},
      {"<f8", "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\xc0"s, DType::kF64, {1, -2}},
      {">f8", "\x3f\xf0\0\0\0\0\0\0\xc0\0\0\0\0\0\0\0"s, DType::kF64, {1, -2}},
      {"<f2", "\0\x3c\0\xc0"s, DType::kF16, {1, -2}},
      {">f2", "\x3c\0\xc0\0"s, DType::kF16, {1, -2}},
      {"<V2", "\x80\x3f\0\xc0"s, DType::kBF16, {1, -2}},
      {"|V2", "\x80\x3f\0\xc0"s, DType::kBF16, {1, -2}},
      {"|b1", "\x01\0"s, DType::kBool, {1, 0}},
      {"|b1", "\x02\xff"s, DType::kBool, {1, 1}},
      {"|i1", "\x01\xfe"s, DType::kI32, {1, -2}},
      {"|u1", "\x01\xfe"s, DType::kI32, {1, 254}},
      {"<i2", "\x01\0\xfe\xff"s, DType::kI32, {1, -2}},
      {">i2", "\0\x01\xff\xfe"s, DType::kI32, {1, -2}},
      {"<u2", "\x01\0\xfe\xff"s, DType::kI32, {1, 65534}},
      {">u2", "\0\x01\xff\xfe"s, DType::kI32, {1, 65534}},
      {"<i4", "\x01\0\0\0\xfe\xff\xff\xff"s, DType::kI32, {1, -2}},
      {">i4", "\0\0\0\x01\xff\xff\xff\xfe"s, DType::kI32, {1, -2}},
      {"<u4", "\x01\0\0\0\xfe\xff\xff\xff"s, DType::kI64, {1, 4294967294}},
      {">u4", "\0\0\0\x01\xff\xff\xff\xfe"s, DType::kI64, {1, 4294967294}},
      {"<i8", "\x01\0\0\0\0\0\0\0\xfe\xff\xff\xff\xff\xff\xff\xff"s, DType::kI64, {1, -2}},
      {">i8", "\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xfe"s, DType::kI64, {1, -2}},
  };
  for (const Case& test : cases) {
    const Tensor tensor = load(npy(header(test.descr, "(2,)"), test.elements));
    EXPECT_EQ(tensor.dtype(), test.dtype) << test.descr;
    EXPECT_THAT(tensor.to(DType::kF64).span<double>(), ElementsAreArray(test.values)) << test.descr;
  }
}

TEST(NpyTest, ReadsEveryVersionAndNotation) {
  const std::vector<std::string> files{
      npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }", "ab", 2),
      npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }", "ab", 3),
      npy("{\"shape\":(1,2,),\"fortran_order\":False,\"descr\":\"|u1\"}", "ab"),
      npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1L, 2L)}", "ab"),
      npy(" { 'fortran_order' : True , 'descr' : '<u1' ,\n'shape' : ( 1 , 2 ) } ", "ab"),
  };
  for (const std::string& file : files) {
    const Tensor tensor = load(file);
    EXPECT_EQ(tensor.shape(), (Shape{1, 2}));
    EXPECT_THAT(tensor.span<std::int32_t>(), ElementsAre('a', 'b'));
  }
  EXPECT_EQ(load(npy(header("|u1", "()"), "a")).shape(), Shape{});
  EXPECT_EQ(load(npy(header("<f4", "(3, 0, 2)", "True"), "")).shape(), (Shape{3, 0, 2}));
}

TEST(NpyTest, SavesWhatItLoads) {
  for (const Shape& shape : {Shape{}, Shape{5}, Shape{2, 3}, Shape{3, 0}, Shape{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3}}) {
    for (DType dtype : {DType::kF32, DType::kF64, DType::kF16, DType::kI32, DType::kI64, DType::kBool}) {
      const Tensor tensor = random_integers(shape, dtype, 0, 2, 0, "x");
      const std::string bytes = save(tensor);
      const Tensor loaded = load(bytes);
      EXPECT_EQ(bytes.size() % 64, static_cast<std::size_t>(tensor.bytes()) % 64);
      EXPECT_EQ(loaded.dtype(), dtype);
      EXPECT_EQ(loaded.shape(), shape);
      EXPECT_THAT(loaded.to(DType::kF64).span<double>(), ElementsAreArray(tensor.to(DType::kF64).span<double>()));
    }
  }
}

TEST(NpyTest, WritesNumpysOwnBytes) {
  EXPECT_EQ(save(Tensor::of<std::int32_t>({2, 1}, {1, -2})),
            "\x93NUMPY\x01\0v\0{'descr': '<i4', 'fortran_order': False, 'shape': (2, 1), }"s + std::string(58, ' ') +
                "\n\x01\0\0\0\xfe\xff\xff\xff"s);
  EXPECT_EQ(
      save(Tensor::of<bool>({1}, {true})),
      "\x93NUMPY\x01\0v\0{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }"s + std::string(60, ' ') + "\n\x01"s);
}

TEST(NpyTest, SavesViewsInOrderAndBfloat16AsFloat) {
  const Tensor tensor = Tensor::of<BFloat16>({2, 2}, {BFloat16(1.5f), BFloat16(2), BFloat16(-3), BFloat16(4)});
  const Tensor loaded = load(save(tensor.permute({1, 0})));
  EXPECT_EQ(loaded.dtype(), DType::kF32);
  EXPECT_THAT(loaded.span<float>(), ElementsAre(1.5f, -3, 2, 4));
}

TEST(NpyTest, ReadsArraysThatFollowOneAnother) {
  std::istringstream in(save(Tensor::of<float>({1}, {1})) + save(Tensor::of<double>({2}, {2, 3})));
  EXPECT_THAT(load_npy(in, "x.npy").span<float>(), ElementsAre(1));
  EXPECT_THAT(load_npy(in, "x.npy").span<double>(), ElementsAre(2, 3));
}

TEST(NpyTest, ReadsLongFilesInPieces) {
  constexpr std::int64_t kCount = 100003;  // more than one piece of 64 KiB, and no multiple
  const Tensor tensor = random_integers({kCount}, DType::kI32, -128, 128, 0, "x");
  std::string elements;
  for (std::int32_t v : tensor.span<std::int32_t>()) elements += static_cast<char>(v);
  const Tensor loaded = load(npy(header("|i1", "(100003,)"), elements));
  EXPECT_TRUE(std::ranges::equal(loaded.span<std::int32_t>(), tensor.span<std::int32_t>()));
}

TEST(NpyTest, ReadsPipes) {
  const Tensor tensor = random_integers({300, 1000}, DType::kF64, -128, 128, 0, "x");
  Pipe pipe(save(tensor) + kWrittenByNumpy);
  std::istream in(&pipe);
  EXPECT_TRUE(std::ranges::equal(load_npy(in, "pipe").span<double>(), tensor.span<double>()));
  EXPECT_THAT(load_npy(in, "pipe").span<std::int32_t>(), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(NpyTest, RefusesPipesThatEndEarly) {
  Pipe pipe(npy(header("<f8", "(1000000000000, 1000)"), "12345678"));
  std::istream in(&pipe);
  EXPECT_THAT([&] { load_npy(in, "pipe"); },
              ThrowsMessage<Error>(
                  StrEq("pipe: truncated: '<f8' of shape [1000000000000, 1000] takes 8000000000000000 bytes, but 8 "
                        "follow the header\n  hint       write the file again")));
}

struct Broken {
  std::string bytes;
  std::string text;
};

TEST(NpyTest, RefusesBrokenFiles) {
  const std::vector<Broken> cases{
      {"", "x.npy: no .npy file: it begins with '', not with '\\x93NUMPY'"},
      {"\x93NUM", "x.npy: no .npy file: it begins with '\\x93NUM', not with '\\x93NUMPY'"},
      {"PK\x03\x04 and so on",
       "x.npy: no .npy file: it begins with 'PK\\x03\\x04 a', not with '\\x93NUMPY'\n"
       "  hint       it seems to be an .npz archive: unzip it, and load what is inside"},
      {"\x93NUMPY", "x.npy: truncated: it ends inside its header\n  hint       write the file again"},
      {"\x93NUMPY\x01\0\x10"s, "x.npy: truncated: it ends inside its header\n  hint       write the file again"},
      {"\x93NUMPY\x01\0\x10\0{'descr"s, "x.npy: truncated: it ends inside its header\n  hint       write the file again"},
      {"\x93NUMPY\x04\0"s, "x.npy: format version 4.0 is not supported\n  hint       versions 1.0, 2.0 and 3.0 are"},
      {"\x93NUMPY\x01\x01"s, "x.npy: format version 1.1 is not supported\n  hint       versions 1.0, 2.0 and 3.0 are"},
      {"\x93NUMPY\xff\0"s, "x.npy: format version 255.0 is not supported\n  hint       versions 1.0, 2.0 and 3.0 are"},
      {"\x93NUMPY\x02\0\xff\xff\xff\xff"s, "x.npy: a header of 4294967295 bytes is too long: at most 65536 are read"},
      {"\x93NUMPY\x01\0\0\0"s, "x.npy: the header must have '{' at byte 0, but has its end"},
      {npy(header("<f4", "(2, 3)"), std::string(23, 'x')),
       "x.npy: truncated: '<f4' of shape [2, 3] takes 24 bytes, but 23 follow the header\n  hint       write the file "
       "again"},
      {npy(header("|u1", "(1000000000000000,)"), "x"),
       "x.npy: truncated: '|u1' of shape [1000000000000000] takes 1000000000000000 bytes, but 1 follow the header\n"
       "  hint       write the file again"},
      {npy(header("<f4", "(4611686018427387904, 2)"), ""),
       "x.npy: shape [4611686018427387904, 2] takes more than 2^63-1 bytes"},
      {npy(header("<f8", "(2305843009213693952,)"), ""), "x.npy: shape [2305843009213693952] takes more than 2^63-1 bytes"},
      {npy(header("<f8", "(0, 4611686018427387904, 4)"), ""),
       "x.npy: shape [0, 4611686018427387904, 4] takes more than 2^63-1 bytes"},
      {npy(header("<f4", "(9223372036854775808,)"), ""),
       "x.npy: the header must have a size below 2^63 at byte 51, but has '9223372036854775808,), }        ...'"},
      {npy(header("<f4", "(2, -3)"), ""),
       "x.npy: the header must have a size of 0 or more at byte 54, but has '-3), }                          ...'"},
      {npy(header("<f4", "(2 3)"), ""),
       "x.npy: the header must have ',' at byte 53, but has '3), }                           ...'"},
      {npy(header("<f4", "(2)"), ""),
       "x.npy: the header must have ',' at byte 52, but has '), }                            ...'"},
      {npy(header("<f4", "(,)"), ""),
       "x.npy: the header must have a size of 0 or more at byte 51, but has ',), }                           ...'"},
      {npy(header("<f4", "2"), ""),
       "x.npy: the header must have '(' at byte 50, but has '2, }                            ...'"},
      {npy(header("<f4", "(2.5,)"), ""),
       "x.npy: the header must have ',' at byte 52, but has '.5,), }                         ...'"},
      {npy(header("<f4", "(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)"), "1234"), "x.npy: the shape has more than 12 dims"},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, ", ""),
       "x.npy: the header must have a size of 0 or more at byte 118, but has its end"},
      {npy(header("<f4", "(2,)", "Maybe"), ""),
       "x.npy: the header must have True or False at byte 34, but has 'Maybe, 'shape': (2,), }         ...'"},
      {npy(header("|O", "(2,)"), "x"),
       "x.npy: elements of type '|O' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy(header("<c8", "(2,)"), "x"),
       "x.npy: elements of type '<c8' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy(header("<u8", "(2,)"), "x"),
       "x.npy: elements of type '<u8' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy(header("|f4", "(2,)"), "x"),
       "x.npy: elements of type '|f4' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy(header("", "(2,)"), "x"),
       "x.npy: elements of type '' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy(header(std::string(200, '\x01'), "(2,)"), "x"),
       "x.npy: elements of type "
       "'\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01"
       "\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01...' are not supported\n"
       "  hint       save real floats, integers of up to 64 bits (unsigned: 32) or bools"},
      {npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", ""),
       "x.npy: structured elements are not supported\n  hint       save each field as an array of its own"},
      {npy("{'descr': '<f4, }", ""),
       "x.npy: the header must have a string that ends at byte 10, but has ''<f4, }                         ...'"},
      {npy("{'descr': '<f4', 'descr': '<f4'}", ""), "x.npy: the header has 'descr' twice or does not know it"},
      {npy("{'order': 'C'}", ""), "x.npy: the header has 'order' twice or does not know it"},
      {npy("{'descr': '<f4', 'fortran_order': False, }", ""), "x.npy: the header lacks 'shape'"},
      {npy("{'descr': '<f4', 'shape': (2,)}", ""), "x.npy: the header lacks 'fortran_order'"},
      {npy("{}", ""), "x.npy: the header lacks 'descr'"},
      {npy("{descr: '<f4'}", ""),
       "x.npy: the header must have a string at byte 1, but has 'descr: '<f4'}                   ...'"},
      {npy("{'descr' '<f4'}", ""),
       "x.npy: the header must have ':' at byte 9, but has ''<f4'}                          ...'"},
      {npy("{'descr': '<f4' 'shape': ()}", ""),
       "x.npy: the header must have '}' at byte 16, but has ''shape': ()}                    ...'"},
      {npy(header("<f4", "()") + "()", "1234"),
       "x.npy: the header must have its end at byte 55, but has '()                              ...'"},
  };
  for (const Broken& broken : cases) {
    EXPECT_THAT([&] { load(broken.bytes); }, ThrowsMessage<Error>(StrEq(broken.text)));
  }
}

TEST(NpyTest, EveryCutIsRefused) {
  for (std::size_t length = 0; length < kWrittenByNumpy.size(); ++length) {
    EXPECT_THAT([&] { load(kWrittenByNumpy.substr(0, length)); }, ThrowsMessage<Error>(StartsWith("x.npy: "))) << length;
  }
}

TEST(NpyTest, EveryWrongByteIsReadOrRefused) {
  int read = 0, refused = 0;
  for (std::size_t at = 0; at < 80; ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string bytes = kWrittenByNumpy;
      bytes[at] = static_cast<char>(byte);
      try {
        EXPECT_LE(load(bytes).count(), 12);
        ++read;
      } catch (const Error& error) {
        EXPECT_EQ(error.diagnostic().code, "npy-format");
        EXPECT_THAT(error.what(), StartsWith("x.npy: "));
        ++refused;
      }
    }
  }
  EXPECT_GT(read, 80);
  EXPECT_GT(refused, read);
}

TEST_F(NpyFileTest, SavesAndLoadsFiles) {
  const Tensor tensor = random_normal({3, 5}, DType::kF32, 0, "x");
  save_npy(tensor, folder_ / "x.npy");
  EXPECT_THAT(load_npy(folder_ / "x.npy").span<float>(), ElementsAreArray(tensor.span<float>()));
  save_npy(tensor.slice(0, 0, 1), folder_ / "x.npy");
  EXPECT_EQ(load_npy(folder_ / "x.npy").shape(), (Shape{1, 5}));
}

TEST_F(NpyFileTest, RefusesLongerFilesThanTheShapeSays) {
  const std::filesystem::path path = write("x.npy", npy(header("|u1", "(2,)"), "abc"));
  EXPECT_THAT([&] { load_npy(path); },
              ThrowsMessage<Error>(StrEq(path.string() + ": bytes follow the elements of shape [2]\n"
                                                         "  hint       a file of several arrays is read from a stream")));
}

TEST_F(NpyFileTest, RefusesFilesThatCannotBeOpened) {
  const std::string missing = (folder_ / "missing" / "x.npy").string();
  EXPECT_THAT([&] { load_npy(std::filesystem::path(missing)); },
              ThrowsMessage<Error>(StrEq("cannot open " + missing + ": No such file or directory")));
  EXPECT_THAT([&] { save_npy(Tensor(), std::filesystem::path(missing)); },
              ThrowsMessage<Error>(StrEq("cannot open " + missing + " for writing: No such file or directory")));
  EXPECT_THAT([&] { load_npy(folder_); },
              ThrowsMessage<Error>(StrEq("cannot open " + folder_.string() + ": it is a directory")));
}

TEST(NpyTest, TellsThatItCannotWrite) {
  std::ostream nowhere(nullptr);
  EXPECT_THAT(
      [&] {
        save_npy(Tensor::zeros({2, 3}, DType::kF16), nowhere, "x.npy");
      },
      ThrowsMessage<Error>(StrEq("cannot write f16 [2, 3] to x.npy\n"
                                 "  hint       check the space that is left")));
}

}  // namespace
}  // namespace tessera
