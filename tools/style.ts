/** The project's rules of style as far as a program can hold them: a pure function from a file to its findings. */

/** A broken rule. */
export interface Finding {
  path: string;
  /** From 1; 0 when it is about the file as a whole. */
  line: number;
  /** What is wrong, and what to do instead. */
  message: string;
}

/** A file of the project. */
export interface SourceFile {
  /** From the root. */
  path: string;
  text: string;
}

/** A file longer than this holds more than one idea. */
const MAX_LINES = 400;

/** What each part may import besides itself; folders that are not named may import anything. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  std: [],
  protocol: [],
  home: ["protocol"],
  daemon: ["protocol", "home"],
  worker: ["protocol", "home", "daemon"],
  hive: ["protocol", "home", "daemon"],
  queen: ["protocol", "home", "daemon"],
  keeper: ["protocol", "home"],
  tools: ["protocol", "home"],
};

/** The only files of a program that may write to the terminal: they escape what they write. */
const MAY_WRITE = [
  "daemon/log.ts",
  "daemon/program.ts",
  "keeper/chat/input.ts",
  "keeper/output.ts",
  "worker/native/src/abort_guard.cpp",
  "worker/native/src/native_log.cpp",
];
const RAW_WRITES = {
  ts:
    /\bconsole\b|\bstd(?:out|err)\.write|\bDeno\.std(?:out|err)\b|\bprocess\.std(?:out|err)\b|\b(?:alert|confirm|prompt)\(|\/dev\/(?:tty|std(?:out|err))/,
  cpp:
    /\bstd(?:out|err)\b|\bstd::c(?:out|err|log)\b|\b(?:std::)?(?:printf|puts|putchar|perror)\(|STD(?:OUT|ERR)_FILENO/,
};

/** In pieces, so that this file does not hold them. */
const FORBIDDEN_WORDS = [
  ["registry", "npmjs", "org"].join("."),
  ["registry", "yarnpkg", "com"].join("."),
  ["npm", "jsr", "io"].join("."),
  ["deb", "debian", "org"].join("."),
  "TO" + "DO",
  "FIX" + "ME",
];

/** Everything that is wrong with one file. `root` is the checkout's absolute path, which no file may name. */
export function styleFindings(file: SourceFile, root: string): Finding[] {
  const rules = [forbiddenWords];
  if (/\.(ts|cpp|h)$/.test(file.path)) rules.push(fileName, fileLength);
  if (file.path.endsWith(".ts")) rules.push(imports, defaultExport, packageNames, errorWording);
  if (/\.(ts|cpp|h)$/.test(file.path)) rules.push(rawWrites);
  return rules.flatMap((rule) => rule(file, root).map((finding) => ({ path: file.path, ...finding })));
}

type Rule = (file: SourceFile, root: string) => Omit<Finding, "path">[];

const forbiddenWords: Rule = ({ text }, root) => {
  const words = FORBIDDEN_WORDS.map((word) => new RegExp(`\\b${escapePattern(word)}\\b`));
  // A root like `/src` is part of many honest paths, so a whole path has to begin with it.
  const rootPath = new RegExp(`(?<![\\w./-])${escapePattern(root)}(?![\\w-])`);
  return matchingLines(text, [...words, rootPath], (word) => `"${word}" does not belong into the project.`);
};

const fileName: Rule = ({ path }) => {
  const names = path.split("/");
  const base = names.at(-1) ?? "";
  const findings: Omit<Finding, "path">[] = [];
  if (!/^[a-z0-9]+(_[a-z0-9]+)*(\.d)?\.\w+$/.test(base)) {
    findings.push({ line: 0, message: "The name is not in snake_case." });
  }
  if (names.some((name) => /^(index\.ts|utils?(\.\w+)?|\w+_utils?\.\w+)$/.test(name))) {
    findings.push({ line: 0, message: "The name says nothing. Name the file after what it does." });
  }
  return findings;
};

const fileLength: Rule = ({ text }) => {
  const lines = text.replace(/\n$/, "").split("\n").length;
  if (lines <= MAX_LINES) return [];
  return [{ line: 0, message: `${lines} lines; at most ${MAX_LINES}. Split it by its ideas.` }];
};

const imports: Rule = ({ path, text }) => {
  const part = path.split("/")[0];
  const isTest = isTestFile(path);
  return importsOf(text).flatMap(({ line, specifier }) => {
    const problem = importProblem({ path, part, isTest, specifier });
    return problem ? [{ line, message: problem }] : [];
  });
};

const defaultExport: Rule = ({ text }) =>
  matchingLines(
    text,
    [/^\s*export\s+default\b/, /^\s*export\s*\{[^}]*\bas\s+default\b/],
    () => "A default export has no name of its own. Export it by name.",
  );

const packageNames: Rule = ({ path, text }) =>
  path.startsWith("tools/")
    ? []
    : matchingLines(text, [/["'`](?:npm|jsr):/], () =>
      "Packages are named in deno.json only, with their version.");

/** What a person is shown is a sentence; a word with `_`, `.` or the like in it is the name of something. */
const errorWording: Rule = ({ path, text }) => {
  if (path.endsWith("_test.ts")) return [];
  const pattern = /\bnew RbeeError\(\s*[\w."]+,\s*["'`]([a-z][a-z']*)[ ,;]/g;
  return [...text.matchAll(pattern)].map((match) => ({
    line: lineOf(text, match.index),
    message: `The error's message begins with "${match[1]}". Begin with a capital letter, or with the value.`,
  }));
};

/** Whatever leaves may hold somebody else's words. */
const rawWrites: Rule = ({ path, text }) => {
  const isProgram = (MAY_IMPORT[path.split("/")[0]] !== undefined && !/^(std|tools)\//.test(path)) &&
    !isTestFile(path);
  if (!isProgram || path.includes("/native/test/") || MAY_WRITE.includes(path)) return [];
  const pattern = path.endsWith(".ts") ? RAW_WRITES.ts : RAW_WRITES.cpp;
  return matchingLines(
    text.replaceAll(/^[ \t]*(?:\/?\*|\/\/).*$/gm, ""),
    [pattern],
    (match) =>
      `"${match}" writes past what escapes. Write by way of ${
        path.startsWith("keeper/")
          ? "Output"
          : path.endsWith(".ts")
          ? "the log or daemon/program.ts"
          : "native_log.h"
      }.`,
  );
};

function importProblem(use: { path: string; part: string; isTest: boolean; specifier: string }) {
  const { path, part, isTest, specifier } = use;
  if (/^(npm|jsr|https?):/.test(specifier)) return `"${specifier}" belongs into the imports of deno.json.`;
  if (specifier.startsWith("deno-std/") && part !== "std") {
    return `"${specifier}" has no types. Import it by way of @std/….`;
  }
  if (!specifier.startsWith(".") || isTest) return undefined;
  const targetPath = new URL(specifier, `file:///${path}`).pathname.slice(1);
  const [target, ...rest] = targetPath.split("/");
  // The version is read from deno.json, which belongs to all.
  if (rest.length === 0) return undefined;
  if (isTestFile(targetPath) && MAY_IMPORT[part]) return `"${specifier}" is made for tests.`;
  const allowed = MAY_IMPORT[part];
  if (!allowed || target === part || allowed.includes(target)) return undefined;
  return `${part} may not import ${target}. It may import: ${["itself", ...allowed].join(", ")}.`;
}

/** Tests and what stands beside the code only for them: `x_test.ts`, `x_test_bed.ts`, `testing/x.ts`. */
function isTestFile(path: string): boolean {
  return /_test(_\w+)?\.ts$/.test(path) || path.includes("/testing/");
}

/** Every `import … from "x"`, `export … from "x"`, `import "x"` and `import("x")`. */
function importsOf(text: string): { line: number; specifier: string }[] {
  const patterns = [
    /^[ \t]*(?:import|export)\b[^;"'`]*?\bfrom\s*["']([^"'\n]+)["']/gm,
    /^[ \t]*import\s*["']([^"'\n]+)["']/gm,
    /\bimport\(\s*["']([^"'\n]+)["']\s*\)/g,
  ];
  return patterns.flatMap((pattern) =>
    [...text.matchAll(pattern)].map((match) => ({ line: lineOf(text, match.index), specifier: match[1] }))
  );
}

function matchingLines(text: string, patterns: RegExp[], message: (match: string) => string) {
  return text.split("\n").flatMap((line, at) =>
    patterns.flatMap((pattern) => {
      const match = pattern.exec(line);
      return match ? [{ line: at + 1, message: message(match[0]) }] : [];
    })
  );
}

function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
