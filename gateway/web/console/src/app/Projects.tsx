import { type Project, useCreateProject } from '@darkroom/client';
import { Check, ChevronsUpDown, Plus } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { Button, classes, Hidden, inputClass } from '../ui/ui';
import css from './Projects.module.css';
import { useErrorToast } from './toasts';

interface ProjectSwitcherProps {
  projects: Project[];
  project: Project;
  choose: (id: string) => void;
}

/** The project that is shown, a list of all, and a form for another. */
export function ProjectSwitcher({ projects, project, choose }: ProjectSwitcherProps) {
  return (
    <>
      <button type="button" className={css.switch} popoverTarget="projects" data-testid="project-switcher">
        <span>
          <Hidden>Project: </Hidden>
          {project.name}
        </span>
        <ChevronsUpDown aria-hidden="true" />
      </button>
      <div id="projects" popover="auto" className={css.menu}>
        <ul data-testid="project-list">
          {projects.map((p) => (
            <li key={p.id}>
              <button
                type="button"
                className={css.item}
                aria-current={p.id === project.id ? 'true' : undefined}
                popoverTarget="projects"
                popoverTargetAction="hide"
                onClick={() => choose(p.id)}
              >
                <span>{p.name}</span>
                {p.id === project.id ? <Check aria-hidden="true" /> : null}
              </button>
            </li>
          ))}
        </ul>
        <NewProject made={choose} />
      </div>
    </>
  );
}

/** One field and a button: a new project. */
export function NewProject({ made, className }: { made: (id: string) => void; className?: string }) {
  const [name, setName] = useState('');
  const create = useCreateProject();
  const refused = useErrorToast();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!name.trim()) return;
    create.mutate(
      { name: name.trim() },
      {
        onSuccess: (project) => {
          setName('');
          document.getElementById('projects')?.hidePopover();
          made(project.id);
        },
        onError: refused,
      },
    );
  };
  return (
    <form className={classes(css.form, className)} onSubmit={submit} data-testid="new-project">
      <input
        className={inputClass}
        aria-label="Name of the new project"
        placeholder="New project"
        maxLength={200}
        value={name}
        onChange={(e) => setName(e.target.value)}
      />
      <Button type="submit" icon busy={create.isPending} disabled={!name.trim()} aria-label="Create project">
        <Plus aria-hidden="true" />
      </Button>
    </form>
  );
}
