-- What Supabase's public linter looks for, of the rules that can concern a schema like ours: each
-- statement answers the objects that a rule above INFO would name. The rules' names are its own.
-- https://supabase.com/docs/guides/database/database-advisors

-- name: auth_rls_initplan
-- Policies that call a function of Supabase Auth for each row.
select format('%s: %s', polrelid::regclass, polname)
from pg_policy
cross join lateral (
    select concat_ws(
        ' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)
    ) as text
) as said
where regexp_replace(said.text, '\mselect\s+auth\.\w+\(\)', '', 'gi') ~* '\mauth\.\w+\(\)';

-- name: multiple_permissive_policies
-- Tables of which one command of a role is allowed by several policies.
select format('%s: %s of %s', p.polrelid::regclass, command, r.rolname)
from pg_policy as p
inner join pg_roles as r on p.polroles && array[r.oid, 0::oid]
cross join unnest(
    case p.polcmd when '*' then array['r', 'a', 'w', 'd'] else array[p.polcmd::text] end
) as command
where p.polpermissive and not r.rolbypassrls and r.rolname !~ '^(pg_|supabase.*admin)'
group by p.polrelid, command, r.rolname
having count(*) > 1;

-- name: rls_disabled_in_public
-- Tables that the API of Supabase shows, without row level security.
select oid::regclass::text
from pg_class
where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace and not relrowsecurity;

-- name: policy_exists_rls_disabled
-- Tables with policies that nobody asks.
select distinct c.oid::regclass::text
from pg_class as c
inner join pg_policy as p on p.polrelid = c.oid
where not c.relrowsecurity;

-- name: permissive_rls_policy
-- Policies that let all users do all.
select format('%s: %s', polrelid::regclass, polname)
from pg_policy
where
    polpermissive
    and polroles && array[0::oid, 'anon'::regrole, 'authenticated'::regrole]
    and 'true' in (pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid));

-- name: function_search_path_mutable
-- Functions that find names by the search path of their caller.
select p.oid::regprocedure::text
from pg_proc as p
where
    p.pronamespace in ('public'::regnamespace, 'faregate'::regnamespace)
    and not coalesce(array_to_string(p.proconfig, ' ') ~ '\msearch_path=', false);

-- name: security_definer_function_executable
-- Functions with the rights of their owner that every user may call.
select p.oid::regprocedure::text
from pg_proc as p
where
    p.prosecdef
    and p.pronamespace in ('public'::regnamespace, 'faregate'::regnamespace)
    and (
        has_function_privilege('anon', p.oid, 'execute')
        or has_function_privilege('authenticated', p.oid, 'execute')
    );

-- name: security_definer_view
-- Views with the rights of their owner that users may read.
select c.oid::regclass::text
from pg_class as c
where
    c.relkind = 'v'
    and c.relnamespace in ('public'::regnamespace, 'faregate'::regnamespace)
    and not coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on'], false)
    and (
        has_table_privilege('anon', c.oid, 'select')
        or has_table_privilege('authenticated', c.oid, 'select')
    );

-- name: auth_users_exposed
-- Views of the users of Supabase Auth that users may read.
select distinct c.oid::regclass::text
from pg_class as c
inner join pg_rewrite as w on w.ev_class = c.oid
inner join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
where
    d.refobjid = 'auth.users'::regclass
    and c.relkind in ('v', 'm')
    and (
        has_table_privilege('anon', c.oid, 'select')
        or has_table_privilege('authenticated', c.oid, 'select')
    );

-- name: duplicate_index
-- Indexes of the same table, the same columns and the same condition.
select string_agg(i.indexrelid::regclass::text, ', ' order by i.indexrelid)
from pg_index as i
inner join pg_class as c on i.indrelid = c.oid
where c.relnamespace in ('public'::regnamespace, 'faregate'::regnamespace)
group by
    i.indrelid,
    regexp_replace(pg_get_indexdef(i.indexrelid), '^.* ON ', '')
having count(*) > 1;

-- name: unindexed_foreign_keys
-- Foreign keys whose columns begin no index.
select format('%s: %s', k.conrelid::regclass, k.conname)
from pg_constraint as k
where
    k.contype = 'f'
    and k.connamespace in ('public'::regnamespace, 'faregate'::regnamespace)
    and not exists (
        select
        from pg_index as i
        where
            i.indrelid = k.conrelid
            and i.indisvalid
            and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
    );
