/** The words of an area, as its page left them with `ui.words(area)`. */
export function words(area: string): (key: string, values?: Record<string, unknown>) => string {
  const block = document.getElementById(`lz-words-${area}`);
  const found = JSON.parse(block?.textContent ?? '{}') as Record<string, string>;
  return (key, values = {}) => {
    const text = found[key];
    if (text === undefined) throw new Error(`${area}.${key} is not among the words of this page`);
    return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name]));
  };
}

/** Data that the server left in the page with the filter `json_block(name)`. */
export function data<T>(name: string): T {
  return JSON.parse(document.getElementById(name)?.textContent ?? 'null') as T;
}
