/** One stream of events for the whole page: a browser opens six connections to a host at most. */

type Listener = (event: MessageEvent<string>) => void;

const REOPEN_MS = 5_000;
const listeners = new Map<string, Set<Listener>>();
let source: EventSource | undefined;
let cutSince = 0;

function hear(kind: string) {
  source?.addEventListener(kind, (event) => {
    for (const listener of listeners.get(kind) ?? []) listener(event as MessageEvent<string>);
  });
}

function say(cut: boolean) {
  cutSince = cut ? cutSince || Date.now() : 0;
  document.documentElement.toggleAttribute('data-cut', cut);
  window.dispatchEvent(new CustomEvent('lz-line', { detail: { cut, since: cutSince } }));
}

/** EventSource comes back from a cut by itself, but gives up after an HTTP error: reopen then. */
function open() {
  // What happened since this page was made is told as well: nothing falls between the two.
  const after = document.documentElement.dataset.live ?? '';
  source = new EventSource(`/live?after=${after}`);
  source.onopen = () => say(false);
  source.onerror = () => {
    say(true);
    if (source?.readyState === EventSource.CLOSED) window.setTimeout(open, REOPEN_MS);
  };
  for (const kind of listeners.keys()) hear(kind);
}

/** Call `listener` with each event of a kind; the answer stops it. `reset`: load everything anew. */
export function listen(kind: string, listener: Listener): () => void {
  if (!listeners.has(kind)) {
    listeners.set(kind, new Set());
    hear(kind);
  }
  listeners.get(kind)!.add(listener);
  if (!source) open();
  return () => listeners.get(kind)?.delete(listener);
}
