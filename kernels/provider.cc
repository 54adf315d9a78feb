#include "kernels/provider.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <mutex>
#include <set>
#include <utility>

#include "kernels/provider_state.h"
#include "support/diagnostic.h"
#include "support/shared_library.h"
#include "support/text.h"

namespace tessera::kernels {
namespace {

std::string_view environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::string_view() : text;
}

std::vector<std::string> without_repeats(std::vector<std::string> names) {
  auto end = names.begin();  // of the names seen so far, each once
  for (std::string& name : names) {
    if (std::find(names.begin(), end, name) == end) std::swap(*end++, name);
  }
  names.erase(end, names.end());
  return names;
}

class Preference {
 public:
  Preference() { set(parse_preference(environment("TESSERA_KERNELS"))); }

  void set(std::vector<std::string> names) {
    const std::scoped_lock lock(mutex_);
    all_.push_back(without_repeats(std::move(names)));
    current_.store(&all_.back(), std::memory_order_release);
  }
  [[nodiscard]] const std::vector<std::string>& get() const { return *current_.load(std::memory_order_acquire); }

 private:
  std::mutex mutex_;
  std::list<std::vector<std::string>> all_;  // former ones too: a thread may still go through one, without a lock
  std::atomic<const std::vector<std::string>*> current_{nullptr};
};

class Log {
 public:
  Log() {
    if (log_is_asked_for(environment("TESSERA_LOG_KERNELS"))) {
      set([](std::string_view line) { fmt::print(stderr, "{}\n", line); });
    }
  }

  void set(std::function<void(std::string_view)> sink) {
    const std::scoped_lock lock(mutex_);
    sink_ = std::move(sink);
    told_.clear();
    is_on_.store(sink_ != nullptr, std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_on() const { return is_on_.load(std::memory_order_relaxed); }
  void tell(std::string line) {
    const std::scoped_lock lock(mutex_);
    if (!sink_) return;
    const auto [told, is_new] = told_.insert(std::move(line));
    if (is_new) sink_(*told);
  }

 private:
  static bool log_is_asked_for(std::string_view text) {
    if (!text.empty() && text != "0" && text != "1") {
      fail("environment", fmt::format("TESSERA_LOG_KERNELS is '{}'", text), "set it to 0 or 1");
    }
    return text == "1";
  }

  std::mutex mutex_;
  std::function<void(std::string_view)> sink_;
  std::set<std::string> told_;
  std::atomic<bool> is_on_{false};
};

// Neither is destroyed: kernels may run until the process ends.
Preference& the_preference() {
  static Preference& preference = *new Preference;
  return preference;
}

Log& the_log() {
  static Log& log = *new Log;
  return log;
}

}  // namespace

std::string to_string(std::string_view kernel, const Choice& choice) {
  std::string text = fmt::format("{} runs on {}", kernel, choice.provider);
  for (const PassedOver& passed : choice.passed_over) text += fmt::format("; {}: {}", passed.provider, passed.reason);
  return text;
}

void prefer(std::vector<std::string> names) { the_preference().set(std::move(names)); }

std::vector<std::string> parse_preference(std::string_view text) {
  std::vector<std::string> names;
  std::string name;
  const auto end_name = [&] {
    if (!name.empty()) names.push_back(std::exchange(name, {}));
  };
  for (const char c : text) {
    if (c == ',') {
      end_name();
    } else if (c != ' ') {
      name += c;
    }
  }
  end_name();
  return names;
}

void log_choices(std::function<void(std::string_view)> sink) { the_log().set(std::move(sink)); }

void load_providers(const std::string& path) {
  const SharedLibrary library(path);
  auto* const provide_kernels = library.find<void()>("tessera_provide");
  if (provide_kernels == nullptr) {
    fail("library-symbol", fmt::format("{} has no function tessera_provide", path),
         "define extern \"C\" void tessera_provide()");
  }
  provide_kernels();
}

const std::vector<std::string>& preference() { return the_preference().get(); }

bool log_is_on() { return the_log().is_on(); }

void tell(std::string_view kernel, const Choice& choice) { the_log().tell(to_string(kernel, choice)); }

void check_new_provider(std::string_view kernel, const std::string& name, bool runs,
                        const std::vector<std::string>& known) {
  if (name.empty()) fail("provider-name", fmt::format("a provider of {} has an empty name", kernel), "give it a name");
  if (name.find_first_of(", ") != std::string::npos) {
    fail("provider-name", fmt::format("the name '{}' of a provider of {} has a comma or a space", name, kernel),
         "give it a name that TESSERA_KERNELS can hold");
  }
  if (!runs)
    fail("provider-run", fmt::format("provider '{}' of {} has no function `run`", name, kernel), "set Provider::run");
  if (std::find(known.begin(), known.end(), name) != known.end()) {
    fail("duplicate-provider", fmt::format("{} has a provider '{}' already", kernel, name), "give it another name");
  }
}

void fail_unknown_provider(std::string_view kernel, std::string_view name, const std::vector<std::string>& known) {
  fail("unknown-provider", fmt::format("{} has no provider '{}'", kernel, name), did_you_mean(name, known));
}

void fail_refused(std::string_view kernel, const PassedOver& provider) {
  fail("provider-refused", fmt::format("{} does not take this call of {}: {}", provider.provider, kernel, provider.reason),
       "name no provider, or `reference`, which takes every call");
}

}  // namespace tessera::kernels
