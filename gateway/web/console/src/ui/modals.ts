import { useSyncExternalStore } from 'react';

// The dialogs that are open, the topmost last.
const open: HTMLDialogElement[] = [];
const listeners = new Set<() => void>();

function tell() {
  for (const listener of listeners) listener();
}

/** Notes that a modal dialog is open, until what is returned is called. */
export function noteModal(dialog: HTMLDialogElement): () => void {
  open.push(dialog);
  tell();
  return () => {
    open.splice(open.indexOf(dialog), 1);
    tell();
  };
}

/** The topmost modal dialog. What lies outside of it can be seen at best: whoever must be reached goes into it. */
export function useTopModal(): HTMLDialogElement | null {
  return useSyncExternalStore(
    (changed) => {
      listeners.add(changed);
      return () => listeners.delete(changed);
    },
    () => open.at(-1) ?? null,
  );
}
