import { useEffect, useRef, useState } from 'react';

const setting = 'darkroom.shortcuts';

/** What a key does while nothing is written and no dialog is open. */
export type Shortcuts = Record<string, () => void>;

/** Whether single keys are shortcuts, which people who dictate or type with switches may turn off. */
export function useShortcutSetting(): [boolean, (on: boolean) => void] {
  const [on, setOn] = useState(() => localStorage.getItem(setting) !== 'off');
  return [
    on,
    (next) => {
      localStorage.setItem(setting, next ? 'on' : 'off');
      setOn(next);
    },
  ];
}

export function useShortcuts(shortcuts: Shortcuts, on: boolean): void {
  const current = useRef(shortcuts);
  current.current = shortcuts;
  useEffect(() => {
    if (!on) return;
    const press = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.repeat) return;
      const at = event.target;
      if (at instanceof HTMLElement && (at.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName))) return;
      if (document.querySelector('dialog[open]')) return;
      const run = current.current[event.key];
      if (!run) return;
      event.preventDefault();
      run();
    };
    document.addEventListener('keydown', press);
    return () => document.removeEventListener('keydown', press);
  }, [on]);
}
