import { type Toast, toastFor } from '@darkroom/client';
import { CircleAlert, CircleCheck, TriangleAlert, X } from 'lucide-react';
import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from 'react';
import { createPortal } from 'react-dom';
import { useTopModal } from '../ui/modals';
import { Button, classes } from '../ui/ui';
import css from './toasts.module.css';

interface Shown {
  id: number;
  title: string;
  description?: string;
  kind: Toast['kind'] | 'success';
  action?: { label: string; run: () => void };
}

type Show = (toast: Omit<Shown, 'id'>) => void;

const Context = createContext<Show>(() => {});

const icons = { success: CircleCheck, warning: TriangleAlert, error: CircleAlert };
const shownFor = { success: 5000, warning: 10_000, error: 10_000 }; // milliseconds
const most = 4;

/** Shows what happened, for a while, above everything. */
export function ToastProvider({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<Shown[]>([]);
  const last = useRef(0);
  const region = useRef<HTMLElement>(null);

  const dismiss = useCallback((id: number) => setToasts((shown) => shown.filter((toast) => toast.id !== id)), []);
  const show = useCallback<Show>(
    (toast) => {
      last.current += 1;
      const id = last.current;
      setToasts((shown) =>
        [...shown.filter((other) => other.title !== toast.title || other.description !== toast.description), { ...toast, id }].slice(-most),
      );
      setTimeout(() => dismiss(id), shownFor[toast.kind]);
    },
    [dismiss],
  );

  // The region lies in the top layer, in the topmost dialog if there is one: the rest of the page cannot be reached then.
  const modal = useTopModal();
  // biome-ignore lint/correctness/useExhaustiveDependencies: in another place it is another element
  useEffect(() => region.current?.showPopover(), [modal]);

  return (
    <Context value={show}>
      {children}
      {createPortal(
        <section ref={region} popover="manual" className={css.region} aria-label="Messages" data-testid="toasts">
          {toasts.map((toast) => {
            const Icon = icons[toast.kind];
            return (
              <div
                key={toast.id}
                className={classes(css.toast, css[toast.kind])}
                role={toast.kind === 'success' ? 'status' : 'alert'}
                data-testid={`toast-${toast.kind}`}
              >
                <Icon aria-hidden="true" />
                <div className={css.text}>
                  <strong>{toast.title}</strong>
                  {toast.description ? <p>{toast.description}</p> : null}
                  {toast.action ? (
                    <Button
                      small
                      onClick={() => {
                        toast.action?.run();
                        dismiss(toast.id);
                      }}
                    >
                      {toast.action.label}
                    </Button>
                  ) : null}
                </div>
                <Button look="quiet" icon small aria-label="Dismiss" onClick={() => dismiss(toast.id)}>
                  <X aria-hidden="true" />
                </Button>
              </div>
            );
          })}
        </section>,
        modal ?? document.body,
      )}
    </Context>
  );
}

/** Shows a toast. */
export function useToast(): Show {
  return useContext(Context);
}

/** Shows what was refused, in words. Of what was given up nothing is said. */
export function useErrorToast(): (error: unknown) => void {
  const show = useToast();
  return useMemo(
    () => (error) => {
      const toast = toastFor(error);
      if (toast) show(toast);
    },
    [show],
  );
}
