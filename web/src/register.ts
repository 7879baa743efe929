/**
 * The registration form: a whole ID number fills in birth date and sex, and says at once if it is
 * mistyped or if its bearer is registered already. The box decides; this only asks it early.
 */
import { words } from './lib/words';

const t = words('people');
const form = document.querySelector<HTMLFormElement>('form[data-check]');
const number = form?.elements.namedItem('id_number');
const said = form?.querySelector<HTMLElement>('[data-said]');

interface Found {
  wrong: string;
  birth_date?: string;
  sex?: string;
  known?: string[];
}

function fill(name: string, value: string) {
  const field = form?.elements.namedItem(name);
  if (field instanceof HTMLInputElement || field instanceof HTMLSelectElement) field.value = value;
}

function tell(text: string, link = '') {
  if (!said) return;
  said.hidden = !text;
  said.textContent = text;
  if (!link) return;
  const there = document.createElement('a');
  there.href = link;
  there.textContent = ` ${link.slice(-6)}`;
  said.append(there);
}

async function ask(typed: HTMLInputElement) {
  const answer = await fetch(form?.dataset.check ?? '', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json', 'Lz-Quiet': '1' },
    body: JSON.stringify({ id_number: typed.value }),
  });
  if (!answer.ok) return;
  const found = (await answer.json()) as Found;
  if (found.wrong) {
    tell(found.wrong);
    return;
  }
  fill('birth_date', found.birth_date ?? '');
  fill('sex', found.sex ?? 'U');
  const [known] = found.known ?? [];
  if (known && !window.location.pathname.includes(known)) tell(t('known_already'), `/patients/${known}`);
  else tell('');
}

if (number instanceof HTMLInputElement) {
  number.addEventListener('input', () => {
    if (number.value.replace(/[\s-]/g, '').length >= 18) void ask(number).catch(() => undefined);
    else tell('');
  });
}
