"""One query for the hash of all definitions in a PostgreSQL database.

It makes one line for each object, with names and never with ids. The contents of an extension are
represented by its version. The comment on the database (our mark) is left out.
"""

from __future__ import annotations

#: Objects of extensions are excluded from each part by `NOT EXISTS (member)`.
_HEAD = """
WITH ns AS (
  SELECT oid, nspname, nspowner, nspacl FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), member AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), rel AS (
  SELECT c.*, n.nspname || '.' || c.relname AS name
  FROM pg_class c JOIN ns n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
  AND NOT EXISTS (SELECT 1 FROM member WHERE classid = 'pg_class'::regclass AND objid = c.oid)
), line(text) AS (
"""
_TAIL = """
), whole(text) AS (
  SELECT coalesce(string_agg(text::text, chr(10) ORDER BY text::text COLLATE "C"), '') FROM line
)
SELECT encode(sha256(convert_to(text, getdatabaseencoding())), 'hex') FROM whole
"""
#: Grants as sorted text, with the defaults spelled out, as an export does not keep the difference.
_ACL = (
    "(SELECT string_agg(a::text, ',' ORDER BY a::text COLLATE \"C\") "
    "FROM unnest(coalesce({column}, acldefault('{kind}', {owner}))) a)"
)


def _acl(column: str, kind: str, owner: str) -> str:
    return _ACL.format(column=column, kind=kind, owner=owner)


def _not_member(catalogue: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM member WHERE classid = '{catalogue}'::regclass AND objid = "
        f"{oid})"
    )


_PARTS = [
    # schemas, extensions, languages
    f"""SELECT json_build_array('schema', nspname, nspowner::regrole,
        {_acl("nspacl", "n", "nspowner")}, obj_description(oid, 'pg_namespace'))
        FROM ns""",
    """SELECT json_build_array('extension', extname, extversion, extnamespace::regnamespace)
        FROM pg_extension""",
    """SELECT json_build_array('language', lanname) FROM pg_language""",
    # tables, views, sequences, composite types
    f"""SELECT json_build_array('relation', name, relkind, relpersistence, relowner::regrole,
        relrowsecurity, relforcerowsecurity, relreplident, reloptions,
        pg_get_expr(relpartbound, oid), CASE WHEN relkind = 'p' THEN pg_get_partkeydef(oid) END,
        CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END,
        CASE WHEN relkind = 'm' THEN relispopulated END,
        CASE WHEN relkind = 'S' THEN {_acl("relacl", "s", "relowner")}
             WHEN relkind <> 'c' THEN {_acl("relacl", "r", "relowner")} END,
        obj_description(oid, 'pg_class'))
        FROM rel""",
    """SELECT json_build_array('inherits', inhrelid::regclass, inhparent::regclass, inhseqno)
        FROM pg_inherits JOIN rel ON rel.oid = inhrelid""",
    """SELECT json_build_array('column', name,
        row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname,
        format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
        attislocal, attinhcount, CASE WHEN attcollation <> 0 THEN attcollation::regcollation END,
        pg_get_expr(adbin, adrelid), attacl, attoptions, attfdwoptions,
        col_description(attrelid, attnum))
        FROM rel JOIN pg_attribute ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relkind <> 'S'""",
    """SELECT json_build_array('sequence', name, seqtypid::regtype, seqstart, seqincrement, seqmax,
        seqmin, seqcache, seqcycle,
        (SELECT string_agg(concat(refobjid::regclass, '.', attname, deptype), ','
                           ORDER BY deptype)
         FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
         WHERE classid = 'pg_class'::regclass AND objid = rel.oid
         AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')))
        FROM rel JOIN pg_sequence ON seqrelid = rel.oid""",
    """SELECT json_build_array('index', indrelid::regclass, pg_get_indexdef(indexrelid),
        indisvalid, indisclustered, indisreplident, obj_description(indexrelid, 'pg_class'))
        FROM pg_index JOIN rel ON rel.oid = indrelid""",
    """SELECT json_build_array('constraint', conrelid::regclass, contypid::regtype, conname,
        pg_get_constraintdef(c.oid), obj_description(c.oid, 'pg_constraint'))
        FROM pg_constraint c JOIN ns ON ns.oid = connamespace""",
    """SELECT json_build_array('trigger', name, pg_get_triggerdef(t.oid), tgenabled,
        obj_description(t.oid, 'pg_trigger'))
        FROM pg_trigger t JOIN rel ON rel.oid = tgrelid
        WHERE NOT tgisinternal""",
    """SELECT json_build_array('trigger off', name, tgenabled, count(*))
        FROM pg_trigger t JOIN rel ON rel.oid = tgrelid
        WHERE tgisinternal AND tgenabled <> 'O'
        GROUP BY name, tgenabled""",
    """SELECT json_build_array('rule', name, pg_get_ruledef(r.oid), ev_enabled)
        FROM pg_rewrite r JOIN rel ON rel.oid = ev_class
        WHERE rulename <> '_RETURN'""",
    """SELECT json_build_array('policy', name, polname, polcmd, polpermissive,
        (SELECT string_agg(r::regrole::text, ',' ORDER BY r::regrole::text COLLATE "C")
         FROM unnest(polroles) r),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
        FROM pg_policy JOIN rel ON rel.oid = polrelid""",
    """SELECT json_build_array('statistics', pg_get_statisticsobjdef(s.oid))
        FROM pg_statistic_ext s JOIN ns ON ns.oid = stxnamespace""",
    # functions and types
    f"""SELECT json_build_array('function',
        CASE WHEN prokind = 'a'
             THEN concat_ws(' ', nspname, proname, pg_get_function_arguments(p.oid),
                            prorettype::regtype)
             ELSE pg_get_functiondef(p.oid) END,
        proowner::regrole, {_acl("proacl", "f", "proowner")}, obj_description(p.oid, 'pg_proc'))
        FROM pg_proc p JOIN ns ON ns.oid = pronamespace
        WHERE {_not_member("pg_proc", "p.oid")}""",
    """SELECT json_build_array('aggregate', a.aggfnoid::regprocedure, aggkind, aggnumdirectargs,
        aggtransfn::regproc, aggfinalfn::regproc, aggcombinefn::regproc, aggtranstype::regtype,
        agginitval)
        FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
        JOIN ns ON ns.oid = p.pronamespace""",
    f"""SELECT json_build_array('type', nspname, typname, typtype, typowner::regrole,
        {_acl("typacl", "T", "typowner")},
        CASE WHEN typtype = 'd'
             THEN concat_ws(' ', format_type(typbasetype, typtypmod), typnotnull, typdefault) END,
        (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder)
         FROM pg_enum WHERE enumtypid = t.oid),
        (SELECT rngsubtype::regtype::text FROM pg_range WHERE rngtypid = t.oid),
        obj_description(t.oid, 'pg_type'))
        FROM pg_type t JOIN ns ON ns.oid = typnamespace
        WHERE typtype IN ('b', 'd', 'e', 'r') AND typelem = 0
        AND {_not_member("pg_type", "t.oid")}""",
    f"""SELECT json_build_array('operator', o.oid::regoperator, oprcode, oprrest, oprjoin)
        FROM pg_operator o JOIN ns ON ns.oid = oprnamespace
        WHERE {_not_member("pg_operator", "o.oid")}""",
    f"""SELECT json_build_array('operator class', amname, nspname, opcname, opcintype::regtype,
        opcdefault)
        FROM pg_opclass o JOIN ns ON ns.oid = opcnamespace JOIN pg_am a ON a.oid = opcmethod
        WHERE {_not_member("pg_opclass", "o.oid")}""",
    f"""SELECT json_build_array('cast', castsource::regtype, casttarget::regtype,
        castfunc::regproc, castcontext)
        FROM pg_cast c
        WHERE c.oid >= 16384 AND {_not_member("pg_cast", "c.oid")}""",
    f"""SELECT json_build_array('collation', c.oid::regcollation, collprovider,
        collisdeterministic, collcollate, collctype)
        FROM pg_collation c JOIN ns ON ns.oid = collnamespace
        WHERE {_not_member("pg_collation", "c.oid")}""",
    f"""SELECT json_build_array('text search', c.oid::regconfig, cfgparser, m.maptokentype,
        m.mapseqno, m.mapdict::regdictionary)
        FROM pg_ts_config c JOIN ns ON ns.oid = cfgnamespace
        LEFT JOIN pg_ts_config_map m ON m.mapcfg = c.oid
        WHERE {_not_member("pg_ts_config", "c.oid")}""",
    f"""SELECT json_build_array('dictionary', d.oid::regdictionary, dictinitoption)
        FROM pg_ts_dict d JOIN ns ON ns.oid = dictnamespace
        WHERE {_not_member("pg_ts_dict", "d.oid")}""",
    # what has no schema
    """SELECT json_build_array('event trigger', evtname, evtevent, evtfoid::regproc, evtenabled,
        evttags)
        FROM pg_event_trigger""",
    """SELECT json_build_array('server', srvname, fdwname, srvtype, srvversion, srvoptions)
        FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw""",
    """SELECT json_build_array('publication', pubname, puballtables, pubinsert, pubupdate,
        pubdelete, pubtruncate)
        FROM pg_publication""",
    """SELECT json_build_array('published', pubname, schemaname, tablename)
        FROM pg_publication_tables""",
    """SELECT json_build_array('default rights', defaclrole::regrole,
        nullif(defaclnamespace, 0)::regnamespace, defaclobjtype,
        (SELECT string_agg(a::text, ',' ORDER BY a::text COLLATE "C") FROM unnest(defaclacl) a))
        FROM pg_default_acl""",
    # of the database itself
    """SELECT json_build_array('setting', unnest(setconfig))
        FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = current_database() AND s.setrole = 0""",
    """SELECT json_build_array('grant', a.grantee::regrole, a.privilege_type, a.is_grantable)
        FROM pg_database d
        CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        WHERE d.datname = current_database() AND a.grantee <> d.datdba""",
]


def schema_query() -> str:
    """A query that returns one text: 64 hexadecimal digits."""
    return _HEAD + "\nUNION ALL\n".join(_PARTS) + _TAIL


#: Catalogues that hold definitions. Their rows are compared by the transaction that wrote them,
#: which is copied with a template.
_CATALOGUES = (
    "pg_namespace", "pg_extension", "pg_language", "pg_attribute", "pg_attrdef", "pg_inherits",
    "pg_sequence", "pg_index", "pg_constraint", "pg_trigger", "pg_rewrite", "pg_policy",
    "pg_statistic_ext", "pg_proc", "pg_aggregate", "pg_type", "pg_enum", "pg_range", "pg_operator",
    "pg_opclass", "pg_opfamily", "pg_cast", "pg_collation", "pg_ts_config", "pg_ts_config_map",
    "pg_ts_dict", "pg_event_trigger", "pg_foreign_server", "pg_foreign_table", "pg_publication",
    "pg_publication_rel", "pg_default_acl", "pg_description",
)  # fmt: skip
#: TRUNCATE also writes to pg_class, but changes nothing that matters here.
_CLASSES = (
    "SELECT count(*), coalesce(sum(hash_record_extended(ROW(oid, relname, relnamespace, relowner, "
    "relkind, relpersistence, relnatts, relrowsecurity, relforcerowsecurity, relispartition, "
    "relreplident, relacl, reloptions, relpartbound::text), 0)), 0) FROM pg_class "
    "WHERE oid >= 16384 AND relkind <> 't'"
)
_SURROUNDINGS = (
    "SELECT count(*), coalesce(sum(hashtextextended(text, 0)), 0) FROM (SELECT unnest(setconfig) "
    "FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
    "WHERE datname = current_database() AND setrole = 0 UNION ALL SELECT datacl::text "
    "FROM pg_database WHERE datname = current_database()) u(text)"
)


def imprint_query() -> str:
    """A query that returns one text, some ten times faster than `schema_query`.

    It is equal for two clones of one template whose definitions were not touched. Where it differs,
    the definitions may still be equal.
    """
    parts = [
        f"SELECT count(*), coalesce(sum(xmin::text::bigint), 0) FROM {name}" for name in _CATALOGUES
    ]
    whole = " UNION ALL ".join([*parts, _CLASSES, _SURROUNDINGS])
    return f"SELECT string_agg(concat(n, ':', s), ' ' ORDER BY n, s) FROM ({whole}) u(n, s)"
