# Changes to llama.cpp that are made while building: a source file is copied into the build folder, the copy is
# changed and compiled in the original's place. A text that is not there as expected ends the configuration, so
# that an update of llama.cpp is looked through: what was fixed there is dropped here.

set(compat_folder ${CMAKE_BINARY_DIR}/compat)
set(llama_folder ${CMAKE_CURRENT_SOURCE_DIR}/worker/native/llama.cpp)
set(native_sources ${CMAKE_CURRENT_SOURCE_DIR}/worker/native/src)

# Where the copy of `file` (relative to llama.cpp) lies. Headers are found by the folder of whoever includes them, so
# the templates' sources and headers, all copied, lie apart from what goes on using the originals.
function(rbee_copy_path file result)
  string(REPLACE "common/jinja/" "jinja/" path ${file})
  set(${result} ${compat_folder}/${path} PARENT_SCOPE)
endfunction()

# Copies `file` with each OLD text replaced by the NEW one that follows it, wherever it stands.
function(rbee_patched_copy file)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${llama_folder}/${file})
  file(READ ${llama_folder}/${file} text)
  math(EXPR last "${ARGC} - 1")
  if(last GREATER 0)
    foreach(i RANGE 1 ${last} 2)
      math(EXPR next "${i} + 1")
      string(FIND "${text}" "${ARGV${i}}" at)
      if(at EQUAL -1)
        message(FATAL_ERROR "llama.cpp's ${file} no longer contains this text; look through its changes in "
          "worker/native/compat/patches.cmake:\n${ARGV${i}}")
      endif()
      string(REPLACE "${ARGV${i}}" "${ARGV${next}}" text "${text}")
    endforeach()
  endif()
  rbee_copy_path(${file} copy)
  set(was "")
  if(EXISTS ${copy})
    file(READ ${copy} was)
  endif()
  if(NOT was STREQUAL text) # otherwise it would be compiled again
    file(WRITE ${copy} "${text}")
  endif()
endfunction()

# Lets `target`, made in llama.cpp's folder `folder`, compile the copy of `name` instead of the original.
function(rbee_use_copy target folder name)
  get_target_property(sources ${target} SOURCES)
  list(FIND sources ${name} at)
  if(at EQUAL -1)
    message(FATAL_ERROR "llama.cpp's target ${target} no longer compiles ${name}")
  endif()
  rbee_copy_path(${folder}/${name} copy)
  list(REMOVE_AT sources ${at})
  list(INSERT sources ${at} ${copy})
  set_property(TARGET ${target} PROPERTY SOURCES ${sources})
  set(includes ${llama_folder}/${folder} ${native_sources} ${CMAKE_CURRENT_SOURCE_DIR}/worker/native/compat)
  if(name MATCHES "^jinja/")
    list(INSERT includes 0 ${compat_folder})
  endif()
  set_source_files_properties(${copy} TARGET_DIRECTORY ${target} PROPERTIES
    INCLUDE_DIRECTORIES "${includes}" SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# --- grammars -----------------------------------------------------------------------------------------------

# A repetition {m,n} with n < m writes rules until memory is gone (llama.cpp#25602). Compiling and sampling take
# time and memory without bound (src/budget.h), and what no text can satisfy ends the process by an assertion.
# A trigger was looked for in all of the answer at each token, by recursion once a character.
# The parser prints a refused grammar as it came. What is made before an exception is lost for good.
set(budget_header [=[#include "budget.h"
#include "grammar_dead_end.h"
#include "llama-grammar.h"]=])
rbee_patched_copy(src/llama-grammar.cpp
  [=[#include "llama-grammar.h"]=] "${budget_header}"
  [=[        bool no_max = max_times == UINT64_MAX;
]=] [=[        bool no_max = max_times == UINT64_MAX;
        if (max_times < min_times) {
            throw std::runtime_error("a repetition's maximum is less than its minimum");
        }
]=]
  [=[    if (!pattern.empty() && pattern.front() == '^' && pattern.back() == '$') {]=]
  [=[    // what is new is at the end
    constexpr size_t longest = 4096;
    const auto begin = input.size() > longest ? input.end() - longest : input.begin();
    const auto flags = begin == input.begin() ? std::regex_constants::match_default : std::regex_constants::match_prev_avail;

    if (begin == input.begin() && !pattern.empty() && pattern.front() == '^' && pattern.back() == '$') {]=]
  [=[    if (std::regex_search(input, match, regex)) {
        return find_start_pos(match);]=]
  [=[    if (std::regex_search(begin, input.end(), match, regex, flags)) {
        return begin - input.begin() + find_start_pos(match);]=]
  [=[fprintf(stderr, "%s: error parsing grammar: %s\n\n%s\n", __func__, err.what(), src);]=]
  [=[LLAMA_LOG_ERROR("%s: error parsing grammar: %.200s\n", __func__, err.what());]=]
  [=[        llama_grammar_stack curr_stack_candidate = std::move(todo.back());]=]
  [=[        rbee::Budget::spend(todo.back().size() + 4 * new_stacks.size());
        llama_grammar_stack curr_stack_candidate = std::move(todo.back());]=]
  [=[                    // scan to end of alternate def
                    subpos++;]=]
  [=[                    // scan to end of alternate def
                    rbee::Budget::spend(1);
                    subpos++;]=]
  [=[    GGML_ASSERT(!stacks.empty()); // REVIEW
]=]
  [=[    if (stacks.empty()) {
        return candidates; // nothing can follow
    }
]=]
  [=[    const llama_grammar_rule & rule = rules[rule_index];
]=] [=[    const llama_grammar_rule & rule = rules[rule_index];
    rbee::Budget::spend(2 * rule.size() + 10);
]=]
  [=[    for (const auto & tok : candidates) {
        if (*tok.code_points == 0) {
            // reached end of full]=]
  [=[    for (const auto & tok : candidates) {
        for (const auto * alternative = stack_pos; !llama_grammar_is_end_of_sequence(alternative) &&
             (alternative == stack_pos || alternative->type == LLAMA_GRETYPE_CHAR_ALT ||
              alternative->type == LLAMA_GRETYPE_CHAR_RNG_UPPER); alternative++) {
            rbee::Budget::spend(1);
        }
        if (*tok.code_points == 0) {
            // reached end of full]=]
  "                if (std::find(stacks_new.begin(), stacks_new.end(), surviving_stack) == stacks_new.end()) {"
  [=[                rbee::Budget::spend(4 * stacks_new.size());
                if (std::find(stacks_new.begin(), stacks_new.end(), surviving_stack) == stacks_new.end()) {]=]
  [=[GGML_ABORT("fatal error");]=] [=[throw rbee::GrammarDeadEnd("the grammar does not allow the end");]=]
  [=[throw std::runtime_error("Unexpected empty grammar stack]=]
  [=[throw rbee::GrammarDeadEnd("Unexpected empty grammar stack]=]
  [=[                            size_t num_trigger_tokens) {
    llama_grammar_parser parser(vocab);]=] [=[                            size_t num_trigger_tokens) try {
    llama_grammar_parser parser(vocab);]=]
  [=[        std::move(vec_trigger_patterns),
    };
}]=] [=[        std::move(vec_trigger_patterns),
    };
} catch (const std::exception & err) {
    LLAMA_LOG_ERROR("%s: %.200s\n", __func__, err.what());
    return nullptr;
}]=]
  [=[    std::vector<llama_token>    vec_trigger_tokens;]=]
  [=[    if (stacks.empty()) {
        LLAMA_LOG_ERROR("no text can satisfy the grammar\n");
        return nullptr;
    }

    std::vector<llama_token>    vec_trigger_tokens;]=])
rbee_use_copy(llama src llama-grammar.cpp)
rbee_patched_copy(src/llama-sampler.cpp
  [=[#include "llama-sampler.h"]=] [=[#include "budget.h"
#include "llama-sampler.h"]=]
  [=[        *ctx = {
            /* .vocab        = */ vocab,
            /* .grammar_str ]=] [=[        const rbee::BudgetPause pause;
        *ctx = {
            /* .vocab        = */ vocab,
            /* .grammar_str ]=]
  [=[    auto * ctx = new llama_sampler_grammar;

    if (grammar_str]=] [=[    auto owned = std::make_unique<llama_sampler_grammar>();
    auto * ctx = owned.get();

    if (grammar_str]=]
  [=[        if (!ctx->grammar) {
            delete ctx;
            return nullptr;]=] [=[        if (!ctx->grammar) {
            return nullptr;]=]
  [=[    return llama_sampler_init(
        /* .iface = */ &llama_sampler_grammar_i,
        /* .ctx   = */ ctx
    );]=] [=[    return llama_sampler_init(
        /* .iface = */ &llama_sampler_grammar_i,
        /* .ctx   = */ owned.release()
    );]=]
  [=[    return new llama_sampler {]=] [=[    const rbee::BudgetPause pause;
    return new llama_sampler {]=]
  # It does happen: a grammar that allows no token leaves probabilities that are no numbers.
  [=[    assert(found);
    if (!found) {]=] [=[    if (!found) {]=])
rbee_use_copy(llama src llama-sampler.cpp)
rbee_patched_copy(common/sampling.cpp
  [=[#include "sampling.h"]=] [=[#include "budget.h"
#include "sampling.h"]=]
  [=[    llama_sampler * chain = llama_sampler_chain_init(lparams);
]=] [=[    llama_sampler * chain = nullptr;
    struct rbee_until_returned {
        llama_sampler *& grmr;
        llama_sampler *& rbudget;
        bool returned = false;
        ~rbee_until_returned() {
            if (!returned) {
                llama_sampler_free(grmr);
                llama_sampler_free(rbudget);
            }
        }
    } until_returned{grmr, rbudget};
]=]
  "    // logit bias: user biases + model suppress tokens (-INFINITY)" [=[    // what follows is bounded by itself
    const rbee::BudgetPause pause;

    // logit bias: user biases + model suppress tokens (-INFINITY)]=]
  [=[    for (auto * smpl : samplers) {
        llama_sampler_chain_add(chain, smpl);]=] [=[    chain = llama_sampler_chain_init(lparams);
    for (auto * smpl : samplers) {
        llama_sampler_chain_add(chain, smpl);]=]
  [=[        /* .cur_p   = */ {},
    };

    return result;]=] [=[        /* .cur_p   = */ {},
    };

    until_returned.returned = true;
    return result;]=]
  [=[            LOG_ERR("%s: error initializing grammar sampler for grammar:\n%s\n\nGeneration prompt:\n'%s'\n", __func__,
                common_grammar_value(params.grammar).c_str(), params.generation_prompt.c_str());
            throw e;]=] "            throw;")
rbee_use_copy(llama-common common sampling.cpp)

# --- JSON ---------------------------------------------------------------------------------------------------

# A value's destructor allocates, and must not fail for want of budget. Writing recurses without allocating.
rbee_patched_copy(vendor/nlohmann/json.hpp
  [=[              const unsigned int current_indent = 0)
    {]=] [=[              const unsigned int current_indent = 0)
    {
        rbee::Budget::spend(10);]=]
  [=[        void destroy(value_t t)
        {]=] [=[        void destroy(value_t t)
        {
            const rbee::BudgetPause pause;]=])
rbee_patched_copy(common/json.cpp
  "#include <nlohmann/json.hpp>" "#include \"budget.h\"
#include \"${compat_folder}/vendor/nlohmann/json.hpp\""
  # What is begun is freed where the rest throws only if another constructor has ended.
  [=[common_json::common_json(std::initializer_list<common_json_item> items) {
    new (storage) ordered_json(ordered_json::object());
]=] [=[common_json::common_json(std::initializer_list<common_json_item> items) : common_json() {
    as_json(this) = ordered_json::object();
]=])
rbee_use_copy(llama-common common json.cpp)

# --- answers ------------------------------------------------------------------------------------------------

# Parsing recurses as deep as the answer nests.
rbee_patched_copy(common/peg-parser.cpp
  [=[#include "peg-parser.h"]=] [=[#include "budget.h"
#include "peg-parser.h"]=]
  [=[    // Execute parser
]=] [=[    // Execute parser
    rbee::Budget::spend(20);
]=])
rbee_use_copy(llama-common common peg-parser.cpp)

# --- chat templates -----------------------------------------------------------------------------------------

# What allocates nothing has to ask for budget itself. Lists within lists may be one list many times over: they are
# written and compared as trees. Splitting and replacing moved the rest of the text
# for each piece, and looked for long words in quadratic time. std::localtime's result is shared by all threads.
set(local_time [=[[](const time_t * time) { thread_local std::tm parts; localtime_r(time, &parts); return &parts; }]=])
foreach(name caps.h lexer.h parser.h string.h utils.h caps.cpp lexer.cpp)
  rbee_patched_copy(common/jinja/${name})
endforeach()
rbee_patched_copy(common/jinja/value.h
  [=[using value_tuple = std::shared_ptr<value_tuple_t>;]=]
  [=[using value_tuple = std::shared_ptr<value_tuple_t>;

// Tuples are compared and hashed as trees.
inline void rbee_count_tuples(const value_t & tuple, size_t & left) {
    for (const auto & item : tuple.val_arr) {
        if (left == 0) {
            throw std::runtime_error("Tuples within tuples are too many");
        }
        if (dynamic_cast<const value_tuple_t *>(item.get()) != nullptr) {
            left--;
            rbee_count_tuples(*item, left);
        }
    }
}

template<typename... Args>
value_tuple rbee_tuple(Args &&... args) {
    auto tuple = mk_val<value_tuple>(std::forward<Args>(args)...);
    size_t left = 1000;
    rbee_count_tuples(*tuple, left);
    return tuple;
}
]=]
  "using value_object = std::shared_ptr<value_object_t>;" [=[using value_object = std::shared_ptr<value_object_t>;

// Values are counted references: one that holds itself is never freed. So it can't be made.
inline void rbee_refuse_cycle(const value_t & holder, const value_t & item, std::unordered_set<const value_t *> & seen) {
    if (&item == &holder) {
        throw std::runtime_error("A list or object can't hold itself");
    }
    if ((item.val_arr.empty() && item.val_obj.empty()) || !seen.insert(&item).second) {
        return;
    }
    for (const auto & element : item.val_arr) {
        rbee_refuse_cycle(holder, *element, seen);
    }
    for (const auto & [key, element] : item.val_obj) {
        rbee_refuse_cycle(holder, *element, seen);
    }
}
]=]
  [=[#include <unordered_map>]=] [=[#include <unordered_map>
#include <unordered_set>]=])
rbee_patched_copy(common/jinja/runtime.h
  "mk_val<value_tuple>(" "rbee_tuple(")
rbee_patched_copy(common/jinja/runtime.cpp
  "        obj_ptr->insert(prop_name, rhs);" [=[        std::unordered_set<const value_t *> seen;
        rbee_refuse_cycle(*object, *rhs, seen);
        obj_ptr->insert(prop_name, rhs);]=]
  "mk_val<value_tuple>(" "rbee_tuple("
  [=[value statement::execute(context & ctx) const {
]=] [=[value statement::execute(context & ctx) const {
    rbee::Budget::spend(100);
]=]
  [=[#include "lexer.h"]=] [=[#include "budget.h"
#include "lexer.h"]=])
rbee_patched_copy(common/jinja/value.cpp
  "            arr_editable->push_back(args.get_pos(1));" [=[            std::unordered_set<const value_t *> seen;
            rbee_refuse_cycle(*arr, *args.get_pos(1), seen);
            arr_editable->push_back(args.get_pos(1));]=]
  [=[#include "runtime.h"]=] [=[#include "budget.h"
#include "runtime.h"]=]
  "mk_val<value_tuple>(" "rbee_tuple("
  "std::localtime(" "${local_time}("
  "haystack->as_string().str().find(needle->as_string().str())"
  "rbee::find_text(haystack->as_string().str(), needle->as_string().str())"
  [=[            while ((pos = str.find(delim)) != std::string::npos && maxsplit != 0) {
                token = str.substr(0, pos);
                result->push_back(mk_val<value_string>(token));
                str.erase(0, pos + delim.length());
                --maxsplit;
            }
]=] [=[            size_t from = 0;
            while ((pos = rbee::find_text(str, delim, from)) != std::string::npos && maxsplit != 0) {
                token = str.substr(from, pos - from);
                result->push_back(mk_val<value_string>(token));
                from = pos + delim.length();
                --maxsplit;
            }
            str.erase(0, from);
]=]
  "            while ((pos = str.rfind(delim))" [=[            if (delim.length() > 256) {
                throw raised_exception("separator is too long");
            }
            while ((pos = str.rfind(delim))]=]
  [=[                    while ((pos = str.find(old_str, pos)) != std::string::npos) {
                        str.replace(pos, old_str.length(), new_str);
                        pos += new_str.length();
                    }
]=] [=[                    std::string replaced;
                    size_t from = 0;
                    while ((pos = rbee::find_text(str, old_str, from)) != std::string::npos) {
                        replaced.append(str, from, pos - from).append(new_str);
                        from = pos + old_str.length();
                    }
                    str = replaced.append(str, from);
]=]
  [=[const std::string_view item_sep, const std::string_view key_sep) {
    auto indent_str]=]
  [=[const std::string_view item_sep, const std::string_view key_sep) {
    rbee::Budget::spend(100);
    auto indent_str]=]
  [=[bool value_compare(const value & a, const value & b, value_compare_op op) {
]=] [=[bool value_compare(const value & a, const value & b, value_compare_op op) {
    rbee::Budget::spend(50);
]=]
  [=[void value_t::stats_t::mark_used(value & val, bool deep) {
]=] [=[void value_t::stats_t::mark_used(value & val, bool deep) {
    rbee::Budget::spend(20);
]=])
rbee_patched_copy(common/jinja/string.cpp
  [=[#include "jinja/string.h"]=] [=[#include "budget.h"
#include "jinja/string.h"]=]
  "parts[i].val = strip_part(" [=[rbee::Budget::spend(4 * parts.size());
            parts[i].val = strip_part(]=]
  "            return chars ?" [=[            rbee::Budget::spend(chars ? chars->size() / 16 + 1 : 1);
            return chars ?]=])
rbee_patched_copy(common/jinja/parser.cpp
  [=[#include "lexer.h"]=] [=[#include "budget.h"
#include "lexer.h"]=]
  [=[    const token & peek(size_t offset = 0) const {
]=] [=[    const token & peek(size_t offset = 0) const {
        rbee::Budget::spend(5);
]=])
foreach(name caps lexer parser runtime string value)
  rbee_use_copy(llama-common common jinja/${name}.cpp)
endforeach()
rbee_patched_copy(common/chat.cpp "std::localtime(" "${local_time}(")
rbee_use_copy(llama-common common chat.cpp)
