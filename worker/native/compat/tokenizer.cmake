# Tokenisers that are linear in practice and can be stopped: llama-vocab.cpp and unicode.cpp with the parts of
# tokenizer.h in place of their own. Seen in llama.cpp v0.5.0; the parts say what upstream does instead.
rbee_patched_copy(src/llama-vocab.cpp
[==[#include "unicode.h"
]==] [==[#include "unicode.h"
#include "tokenizer.h"
]==]

# Special tokens: for each occurrence upstream walks the list of all that were found before.
[==[        fragment_buffer.emplace_front(raw_text, 0, raw_text.length());
        tokenizer_st_partition(fragment_buffer, parse_special);
]==] [==[        constexpr size_t short_text = 2048;
        if (rbee::tokenizer_hooks.upstream || raw_text.size() < short_text) {
            fragment_buffer.emplace_front(raw_text, 0, raw_text.length());
            tokenizer_st_partition(fragment_buffer, parse_special);
        } else {
            std::vector<rbee::SpecialToken> specials;
            for (const llama_token id : cache_special_tokens) {
                const auto & data = vocab.get_token_data(id);
                if (!parse_special && (data.attr & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN))) continue;
                specials.push_back({id, data.text, (data.attr & LLAMA_TOKEN_ATTR_LSTRIP) != 0, (data.attr & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
            }
            auto last = fragment_buffer.before_begin();
            for (const auto & fragment : rbee::cut_at_special_tokens(raw_text, specials)) {
                last = fragment.token >= 0 ? fragment_buffer.emplace_after(last, fragment.token)
                                           : fragment_buffer.emplace_after(last, raw_text, fragment.offset, fragment.length);
            }
        }
]==]

# SPM: a reserve of exactly what is needed copies all of the output for each byte.
[==[            output.reserve(output.size() + symbol.n);
            for (int j = 0;]==] [==[            for (int j = 0;]==]
# SPM: what is merged is always a token, so that nobody looks there.
[==[        rev_merge[text] = std::make_pair(left, right);
]==] ""
[==[    void try_add_bigram(int left, int right) {
]==] [==[    void try_add_bigram(int left, int right) {
        rbee::tokenizer_checkpoint();
]==]

# RWKV: where the vocabulary has only the beginnings of a word, all begins anew at the first byte, for ever.
[==[            uint32_t token_id = 0;
            uint32_t token_length = 0;
            while (node != NULL) {
                if (node->has_value) {
                    token_id = node->value;
                    token_length = position + 1;]==] [==[            rbee::tokenizer_checkpoint();
            uint32_t token_id = vocab.token_unk();
            uint32_t token_length = position + 1;
            while (node != NULL) {
                if (node->has_value) {
                    token_id = node->value;
                    token_length = position + 1;]==]
# PLaMo 2: a step of no length is only asserted against.
[==[            pos += path[pos][PATH_TOKEN_LENGTH];]==] [==[            pos += std::max(1, path[pos][PATH_TOKEN_LENGTH]);]==]

# BPE: long words by numbers instead of texts.
[==[            for (int i = 1; i < (int) symbols.size(); ++i) {
                add_new_bigram(i - 1, i);
            }
]==] [==[            constexpr size_t long_word = 64;
            if (!rbee::tokenizer_hooks.upstream && symbols.size() > long_word) {
                long_words.merge(symbols);
            } else {
                rbee::tokenizer_checkpoint();
                for (int i = 1; i < (int) symbols.size(); ++i) {
                    add_new_bigram(i - 1, i);
                }
            }
]==]
[==[    std::vector<llm_symbol> symbols_final;
    llm_bigram_bpe::queue work_queue;
]==] [==[    std::vector<llm_symbol> symbols_final;
    llm_bigram_bpe::queue work_queue;
    rbee::WordMerger<llama_vocab> long_words{vocab};
]==]

# The others only stop where they are told to.
[==[            for (int i = 0; i < n; ++i) {
                // loop through possible match length
]==] [==[            for (int i = 0; i < n; ++i) {
                rbee::tokenizer_checkpoint();
                // loop through possible match length
]==]
[==[        for (size_t input_offset = 0; input_offset < input_len;) {
]==] [==[        for (size_t input_offset = 0; input_offset < input_len;) {
            rbee::tokenizer_checkpoint();
]==]
[==[        while (position < text.size()) {
            const struct naive_trie * node]==] [==[        while (position < text.size()) {
            rbee::tokenizer_checkpoint();
            const struct naive_trie * node]==]
[==[        for (int i = static_cast<int>(data_len) - 1; i >= 0; --i) {
]==] [==[        for (int i = static_cast<int>(data_len) - 1; i >= 0; --i) {
            rbee::tokenizer_checkpoint();
]==]
)
rbee_use_copy(llama src llama-vocab.cpp)

# std::regex overflows the stack where a word is long.
rbee_patched_copy(src/unicode.cpp
[==[#include "unicode-data.h"
]==] [==[#include "unicode-data.h"
#include "regex_split.h"
]==]
[==[    using BidirIt = typename std::basic_string<CharT>::const_iterator;
]==] [==[    if (!rbee::tokenizer_hooks.upstream) {
        try {
            return rbee::RegexSplitter<CharT>(regex).split(text, offsets);
        } catch (const rbee::UnknownRegex &) {
            // Of a kind that no tokeniser has at present.
        }
    }
    using BidirIt = typename std::basic_string<CharT>::const_iterator;
]==]
)
rbee_use_copy(llama src unicode.cpp)
