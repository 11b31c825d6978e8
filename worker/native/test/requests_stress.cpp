#include "requests_stress.h"

#include "conversation.h"
#include "errors.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace rbee::stress {

namespace {

constexpr const char* sentences[] = {
    "Once upon a time, there was a little girl named Lily. ",
    "She loved to play outside in the park with her friend Tom. ",
    "One day they saw a big red ball \xF0\x9F\x8E\x88 near the caf\xC3\xA9. ",
    "\"Can we play with it?\" asked Lily, and her mom said yes! ",
};

// The prompt of a conversation.
std::string rendered(const Model& model, const std::string& text) {
  common_json message = common_json::object();
  message["role"] = "user";
  message["content"] = text;
  common_json request = common_json::object();
  request["messages"] = common_json::array({message});
  // A story may end in the middle of a character.
  const std::string text_of_request = request.dump_safe();
  return common_json::parse(render_conversation(model, text_of_request)).at("prompt").get<std::string>();
}

// One way in which a request can differ from the plainest; several may come together.
struct Feature {
  int percent; // of the requests that have it
  void (*add)(Requests& requests, Wish& wish);
};

constexpr Feature features[] = {
    {30, [](Requests&, Wish& wish) { wish.options.temperature = 0; }},
    {30, [](Requests& requests, Wish& wish) { wish.options.seed = requests.random(); }},
    {20, [](Requests& requests, Wish& wish) { wish.options.top_k = requests.random.below(100); }},
    {20,
     [](Requests& requests, Wish& wish) { wish.options.top_p = 0.01F * float(requests.random.below(101)); }},
    {20,
     [](Requests& requests, Wish& wish) { wish.options.min_p = 0.01F * float(requests.random.below(101)); }},
    {15,
     [](Requests&, Wish& wish) {
       wish.options.repetition_penalty = 1.2F;
       wish.options.presence_penalty = -0.5F;
       wish.options.frequency_penalty = 0.5F;
     }},
    {25,
     [](Requests& requests, Wish& wish) {
       wish.options.stops = {"Lily", ". ",
                             std::string(1, static_cast<char>('a' + requests.random.below(26)))};
     }},
    {20, [](Requests& requests, Wish& wish) { wish.options.logprobs = requests.random.below(21); }},
    {10, [](Requests&, Wish& wish) { wish.options.grammar = "root ::= [a-z ]{1,80}"; }},
    {10,
     [](Requests&, Wish& wish) {
       wish.options.json_schema = R"({"type":"object","properties":{"name":{"type":"string","maxLength":8},)"
                                  R"("age":{"type":"integer"}},"required":["name","age"]})";
     }},
    {15, [](Requests&, Wish& wish) { wish.options.strict = true; }},
    {20, [](Requests&, Wish& wish) { wish.options.marked = true; }},
    {20,
     [](Requests&, Wish& wish) {
       if (!wish.options.strict) wish.options.speculation = Speculation::on;
     }},
    {15,
     [](Requests& requests, Wish& wish) {
       const int answer = 1 + requests.random.below(8);
       wish.options.prompt =
           requests.story(requests.context - answer - 8); // 8: it may tokenise differently alone
       wish.options.max_tokens = requests.random.chance(50) ? 0 : answer;
     }},
    {10,
     [](Requests& requests, Wish& wish) {
       if (requests.model.has_chat_template()) {
         wish.options.prompt = rendered(requests.model, requests.story(1 + requests.random.below(20)));
       }
     }},
    {3,
     [](Requests& requests, Wish& wish) {
       wish.options.prompt = requests.story(requests.context * 2);
       wish.refused = true;
     }},
    {2,
     [](Requests& requests, Wish& wish) {
       if (wish.refused) return; // for its prompt, which this would replace
       wish.options.prompt = std::string("a\0b", 3);
       try {
         requests.model.tokenize(wish.options.prompt, true, true);
       } catch (const EngineError&) {
         wish.refused = true; // this vocabulary has no token for it
       }
     }},
    {3,
     [](Requests&, Wish& wish) {
       wish.options.grammar = "root ::= nowhere";
       wish.refused |= wish.options.json_schema.empty();
     }},
    {2,
     [](Requests&, Wish& wish) {
       wish.options.json_schema = R"({"type":"no such type"})";
       wish.refused = true;
     }},
};

} // namespace

Requests::Requests(Random random, const Model& model, int context)
    : random(random), model(model), context(context) {
  for (size_t first = 0; first < std::size(sentences); first++) {
    std::string text;
    std::vector<llama_token> ids;
    for (size_t i = first; ids.size() < static_cast<size_t>(2 * context); i++) {
      text += sentences[i % std::size(sentences)];
      if (i % 16 == 0) ids = model.tokenize(text, false, false);
    }
    stories_.push_back(std::move(ids));
  }
}

std::string Requests::story(int tokens) {
  const auto& ids = stories_[random.chance(70) ? 0 : static_cast<size_t>(random.below(4))];
  return model.detokenize({ids.begin(), ids.begin() + tokens});
}

Wish Requests::draw() {
  Wish wish;
  wish.options.prompt = story(1 + random.below(context / 4));
  wish.options.max_tokens = 1 + random.below(context / 2);
  wish.options.default_max_tokens = 64;
  for (const Feature& feature : features) {
    if (random.chance(feature.percent)) feature.add(*this, wish);
  }
  return wish;
}

} // namespace rbee::stress
