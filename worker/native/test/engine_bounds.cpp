// Hostile inputs to everything that a budget or a check bounds: grammars, schemas, constraints, chat
// templates, conversations, answers and saved states. Each has to be refused or to come to its end, and to
// leave a neighbour's answer as it is. Written by hand first, then drawn at random.
//
//   engine_bounds [--draws N] [--seed N] MODEL
//
// Prints what took longest and what held most memory; exit status 1 when something was wrong, 2 for a wrong
// command line.
#include "conversation.h"
#include "devices.h"
#include "engine.h"
#include "errors.h"
#include "figures_bounds.h"
#include "hostile_bounds.h"
#include "native_log.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace rbee::bounds {

namespace {

constexpr int slots = 2;
constexpr int context = 512;

class Bounds {
 public:
  Bounds(const std::string& path, uint32_t seed)
      : path_(path), random_(seed), engine_(load({}), nullptr, options(), [this] { wake(); }) {}

  int failures() const { return failures_; }
  const Figures& figures() const { return figures_; }

  void run(int draws) {
    ordinary();
    grammars(draws);
    schemas(draws);
    constraints();
    templates();
    conversations();
    answers(draws);
    states(draws);
  }

 private:
  struct Ended {
    std::string code;
    int tokens = 0;
    bool over = false;
  };

  static EngineOptions options() {
    EngineOptions options;
    options.slots = slots;
    options.ctx_size = context;
    options.threads = 1;
    return options;
  }

  std::unique_ptr<Model> load(const std::string& chat_template) {
    const std::atomic<bool> cancel{false};
    ModelOptions options;
    options.path = path_;
    options.chat_template = chat_template;
    return std::make_unique<Model>(
        options, [](LoadProgress) {}, cancel);
  }

  void fail(const std::string& why, const std::string& of) {
    std::printf("FAILED: %s: %s\n", why.c_str(), of.substr(0, 200).c_str());
    failures_++;
  }

  // Measures what an input takes, however it goes; it may throw EngineError of these codes.
  template <typename Work>
  std::string timed(const std::string& kind, const std::string& of, Work work) {
    const Clock::time_point begin = Clock::now();
    std::string code;
    try {
      work();
    } catch (const EngineError& error) {
      code = error.code;
      if (code != "INVALID_REQUEST" && code != "INTERNAL") fail(code + ": " + error.what(), of);
    } catch (const std::exception& error) {
      fail(std::string("not an EngineError: ") + error.what(), of);
    }
    figures_.add(kind, std::chrono::duration<double, std::milli>(Clock::now() - begin).count(), of);
    return code;
  }

  void wake() {
    const std::lock_guard<std::mutex> lock(mutex_);
    changed_.notify_one();
    awake_ = true;
  }

  // Waits until these answers have ended; tells how.
  std::map<Handle, Ended> await(const std::vector<Handle>& handles) {
    std::map<Handle, Ended> ended;
    const auto all_over = [&] {
      for (const Handle handle : handles) {
        if (!ended[handle].over) return false;
      }
      return true;
    };
    Clock::time_point last = Clock::now();
    while (!all_over()) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return awake_; });
        awake_ = false;
      }
      for (const Event& event : engine_.take_events()) {
        Ended& answer = ended[event.handle];
        answer.tokens += static_cast<int>(event.tokens.size());
        if (event.handle == handles.front()) {
          const Clock::time_point now = Clock::now();
          figures_.add("gap of the neighbour's tokens",
                       std::chrono::duration<double, std::milli>(now - last).count(), "");
          last = now;
        }
        if (!event.ending) continue;
        answer.over = true;
        answer.code = event.ending->error_code;
      }
    }
    return ended;
  }

  Handle submit(RequestOptions options) {
    const Handle handle = next_++;
    auto flag = engine_.announce(handle);
    try {
      engine_.submit(prepare_request(engine_.model(), engine_.limits(), handle, flag, std::move(options)));
    } catch (...) {
      engine_.withdraw(handle);
      throw;
    }
    return handle;
  }

  static RequestOptions plain(int tokens) {
    RequestOptions options;
    options.prompt = "Once upon a time";
    options.max_tokens = tokens;
    options.temperature = 0;
    return options;
  }

  // An answer that keeps to this, beside a neighbour's.
  void answer(const std::string& kind, const std::string& of, const RequestOptions& hostile) {
    constexpr int neighbour_tokens = 100;
    const Handle neighbour = submit(plain(neighbour_tokens));
    std::vector<Handle> handles{neighbour};
    timed(kind + ", prepared", of, [&] { handles.push_back(submit(hostile)); });
    const auto ended = await(handles);
    if (!ended.at(neighbour).code.empty()) fail("the neighbour's answer failed", of);
    for (const Handle handle : handles) {
      const std::string& code = ended.at(handle).code;
      if (!code.empty() && code != "INVALID_REQUEST" && code != "INTERNAL") fail(code, of);
    }
  }

  void ordinary() {
    for (const HostileText& text : ordinary_schemas()) {
      RequestOptions options = plain(64);
      options.json_schema = text.text;
      timed_submit("ordinary schema", text.name, options);
    }
    const auto model = load(tool_template);
    for (const int tools : {1, 10, 100}) {
      RequestOptions options = plain(64);
      const std::string name = std::to_string(tools) + " tools of 8 parameters";
      if (!timed("ordinary tools, rendered", name, [&] {
             const common_json rendered =
                 common_json::parse(render_conversation(*model, many_tools(tools, 8)));
             options.constraint = rendered.at("constraint").dump();
           }).empty()) {
        fail("the tools are refused", name);
      }
      timed_submit("ordinary tools, prepared", name, options);
    }
  }

  // Of what has to be taken.
  Handle timed_submit(const std::string& kind, const std::string& of, const RequestOptions& options) {
    Handle handle = 0;
    if (!timed(kind, of, [&] { handle = submit(options); }).empty()) fail("it is refused", of);
    const auto ended = await({handle});
    if (!ended.at(handle).code.empty()) fail("the answer failed: " + ended.at(handle).code, of);
    return handle;
  }

  void grammars(int draws) {
    for (const HostileText& text : hostile_grammars()) {
      RequestOptions options = plain(16);
      options.grammar = text.text;
      if (text.refused) {
        const std::string code = timed("grammar, refused", text.name, [&] { submit(options); });
        if (code != "INVALID_REQUEST") fail("the grammar is not refused", text.name);
      } else {
        answer("grammar", text.name, options);
      }
    }
    for (int i = 0; i < draws; i++) {
      RequestOptions options = plain(8);
      options.grammar = random_grammar(random_);
      answer("random grammar", options.grammar, options);
    }
  }

  void schemas(int draws) {
    for (const HostileText& text : hostile_schemas()) {
      RequestOptions options = plain(16);
      options.json_schema = text.text;
      answer("schema", text.name, options);
    }
    for (int i = 0; i < draws; i++) {
      RequestOptions options = plain(8);
      options.json_schema = random_schema(random_);
      answer("random schema", options.json_schema, options);
    }
  }

  void constraints() {
    for (const HostileText& text : hostile_constraints()) {
      RequestOptions options = plain(16);
      options.constraint = text.text;
      answer("constraint", text.name, options);
    }
    // A resumed answer that its grammar does not allow, to its end and beyond.
    RequestOptions options = plain(16);
    options.grammar = "root ::= \"a\"";
    SequenceState state;
    state.max_tokens = 16;
    state.prompt = engine_.model().tokenize("Once", true, true);
    state.generated = {llama_vocab_eos(engine_.model().vocab())};
    options.resume = state;
    answer("constraint", "a resumed answer that its grammar refuses", options);
  }

  void templates() {
    for (const HostileText& text : hostile_templates()) {
      timed("template", text.name, [&] {
        const auto model = load(text.text);
        for (int i = 0; i < 3; i++) {
          render_conversation(*model, R"({"messages":[{"role":"user","content":"Hello."}]})");
        }
      });
    }
  }

  void conversations() {
    const auto model = load(
        "{% for m in messages %}{{ m.role }}{% for p in m.content.split(' ') %}{{ p | trim }}{% endfor %}"
        "{{ m.content | replace('a', 'b') | upper }}{{ x | tojson }}{% if 'q' in m.content %}q{% endif %}{% "
        "endfor %}");
    for (const HostileText& text : hostile_conversations()) {
      timed("conversation", text.name, [&] { render_conversation(*model, text.text); });
    }
  }

  void answers(int draws) {
    const auto model = load(tool_template);
    const common_json rendered = common_json::parse(render_conversation(*model, tool_conversation));
    const std::string spec = rendered.at("parser").dump();
    for (const HostileText& text : hostile_answers()) {
      timed("answer", text.name, [&] {
        ChatParser parser(spec);
        for (size_t at = 0; at < text.text.size(); at += 4) {
          parser.push(text.text.substr(at, 4), false);
        }
        parser.push("", true);
      });
    }
    for (int i = 0; i < draws; i++) {
      const std::string text = random_answer(random_);
      const std::string whole = message_of(spec, text, {text.size()});
      std::vector<size_t> cuts;
      for (size_t at = 0; at < text.size(); at += static_cast<size_t>(1 + random_.below(200))) {
        cuts.push_back(at);
      }
      cuts.push_back(text.size());
      const std::string cut = message_of(spec, text, cuts);
      if (cut != whole) fail("an answer that was cut reads as " + cut + " instead of " + whole, text);
    }
  }

  // Deltas put together again.
  static std::string message_of(const std::string& spec, const std::string& text,
                                const std::vector<size_t>& cuts) {
    ChatParser parser(spec);
    std::string reasoning;
    std::string content;
    std::map<int, std::string> calls;
    const auto add = [&](const std::string& deltas) {
      for (const common_json& delta : common_json::parse(deltas)) {
        reasoning += delta.value("reasoning", "");
        content += delta.value("content", "");
        if (!delta.contains("tool_call")) continue;
        const common_json& call = delta.at("tool_call");
        calls[call.at("index").get<int>()] += call.at("arguments").get<std::string>();
      }
    };
    size_t from = 0;
    for (const size_t cut : cuts) {
      add(parser.push(text.substr(from, cut - from), false));
      from = cut;
    }
    add(parser.push("", true));
    std::string all = reasoning + "|" + content;
    for (const auto& [index, arguments] : calls) {
      all += "|" + std::to_string(index) + ":" + arguments;
    }
    return all;
  }

  void states(int draws) {
    const Handle handle = submit(plain(400));
    std::optional<SequenceState> state;
    while (!state || state->generated.size() < 20) {
      state = engine_.export_sequence(handle, true, false);
      if (!state) break;
    }
    engine_.cancel(handle, StopReason::canceled);
    await({handle});
    if (!state) return fail("no state could be exported", "");
    const StateFormat* format = engine_.limits().state_format;
    if (format == nullptr || !format->fits(state->kv, state->kv_tokens)) {
      return fail("a state as it was exported does not fit", "");
    }
    resume("as exported", *state);
    for (const HostileState& hostile : hostile_states(*state)) {
      if (format->fits(hostile.state.kv, hostile.state.kv_tokens)) fail("the state fits", hostile.name);
      resume(hostile.name, hostile.state);
    }
    for (int i = 0; i < draws; i++) {
      resume("drawn at random", random_state(random_, *state));
    }
  }

  void resume(const std::string& name, SequenceState state) {
    state.max_tokens = static_cast<int>(state.generated.size()) + 4;
    RequestOptions options = plain(0);
    options.resume = std::move(state);
    answer("state", name, options);
  }

  std::string path_;
  Random random_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool awake_ = false;
  Engine engine_;
  Handle next_ = 1;
  int failures_ = 0;
  Figures figures_;
};

} // namespace

} // namespace rbee::bounds

int main(int argc, char** argv) {
  int draws = 50;
  uint32_t seed = 1;
  std::string model;
  for (int i = 1; i < argc; i++) {
    if (i + 1 < argc && std::strcmp(argv[i], "--draws") == 0) {
      draws = std::atoi(argv[++i]);
    } else if (i + 1 < argc && std::strcmp(argv[i], "--seed") == 0) {
      seed = static_cast<uint32_t>(std::atoi(argv[++i]));
    } else {
      model = argv[i];
    }
  }
  if (model.empty()) {
    std::fputs("Usage: engine_bounds [--draws N] [--seed N] MODEL\n", stderr);
    return 2;
  }
  rbee::install_log();
  rbee::load_backends();
  rbee::bounds::Bounds bounds(model, seed);
  bounds.run(draws);
  bounds.figures().print();
  std::printf("engine_bounds: %d failures\n", bounds.failures());
  return bounds.failures() == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
