#include "addon_sandbox.h"

#include "addon_convert.h"
#include "addon_work.h"
#include "forbidden.h"
#include "sandbox.h"

#include <cstdlib>

namespace rbee {

namespace {

Napi::Object to_js(Napi::Env env, const SandboxSupport& support) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("landlockAbi", support.landlock_abi);
  object.Set("seccomp", support.seccomp);
  return object;
}

Napi::Object to_js(Napi::Env env, const SandboxReport& report) {
  Napi::Array problems = Napi::Array::New(env, report.problems.size());
  for (uint32_t i = 0; i < report.problems.size(); i++)
    problems.Set(i, report.problems[i]);
  Napi::Object object = Napi::Object::New(env);
  object.Set("support", to_js(env, report.support));
  object.Set("noNewPrivs", report.no_new_privs);
  object.Set("landlock", report.landlock);
  object.Set("seccomp", report.seccomp);
  object.Set("problems", problems);
  return object;
}

Napi::Value sandbox_support_to_js(const Napi::CallbackInfo& info) {
  return to_js(info.Env(), sandbox_support());
}

Napi::Value confine_process(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Napi::Object options = read_object(info[0], "paths");
    return to_js(info.Env(), confine({read_strings(options, "read"), read_strings(options, "write")}));
  });
}

Napi::Value try_forbidden_for_js(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Napi::Object options = read_object(info[0], "targets");
    const std::vector<ThreadAttempts> threads = try_forbidden(
        {read_string(options, "program"), read_string(options, "newFile"), read_string(options, "file"),
         read_integer(options, "port"), read_integer(options, "process")});
    Napi::Array array = Napi::Array::New(info.Env(), threads.size());
    for (uint32_t i = 0; i < threads.size(); i++) {
      Napi::Object errors = Napi::Object::New(info.Env());
      for (const auto& [what, error] : threads[i].errors)
        errors.Set(what, error);
      Napi::Object thread = Napi::Object::New(info.Env());
      thread.Set("name", threads[i].name);
      thread.Set("errors", errors);
      array.Set(i, thread);
    }
    return array;
  });
}

} // namespace

void define_sandbox(Napi::Env env, Napi::Object exports) {
  exports.Set("sandboxSupport", Napi::Function::New(env, sandbox_support_to_js));
  exports.Set("confine", Napi::Function::New(env, confine_process));
  if (std::getenv("RBEE_TEST_FORBIDDEN") != nullptr)
    exports.Set("tryForbidden", Napi::Function::New(env, try_forbidden_for_js));
}

} // namespace rbee
