/** A daemon's manual page, made of its own help (man(7)). Pure. */

/** The page as roff. The help's first sentence is `NAME: what it is.`; the rest stands as it is. */
export function helpPage(help: string, version: string): string {
  const [, name, summary] = /^([\w-]+): (.*?)\.(?:\s|$)/s.exec(help)!;
  return [
    `.TH ${name.toUpperCase()} 1 "" "rbee ${version}" "User Commands"`,
    ".SH NAME",
    roff(`${name} - ${summary.replaceAll(/\s+/g, " ")}`),
    ".SH DESCRIPTION",
    ".nf",
    ...help.split("\n").map(roff),
    ".fi",
    ".SH SEE ALSO",
    ".BR rbee-keeper (1)",
    "",
  ].join("\n");
}

/** Text that means nothing to roff. */
function roff(text: string): string {
  const escaped = text.replaceAll("\\", "\\e").replaceAll("-", "\\-");
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
