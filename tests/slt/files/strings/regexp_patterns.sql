# constant patterns over columns: groups, ends of lines, escapes, and what finds nothing between characters
create table t (id int primary key, s varchar(60));
insert into t values (1, 'http://www.example.com/a/b?x=1'), (2, 'https://other.net/'), (3, 'ab\n'), (4, 'a.b.c'), (5, 'abab'), (6, ''), (7, null), (8, 'été a1b22'), (9, 'a+b (c) ab');
select id from t where s regexp 'b$' order by id;
select id from t where s regexp '^ab$' order by id;
select id from t where s regexp 'a\\.b' order by id;
select id from t where s regexp '\\(c\\)' order by id;
select id from t where s regexp 'a++b' order by id;
select id, regexp_replace(s, '[0-9]+', '#') from t order by id;
select id, regexp_replace(s, '\\.', '') from t order by id;
select id, regexp_replace(s, 'b$', '!') from t order by id;
select id, regexp_replace(s, '(?:ab)+', 'x') from t order by id;
select id, regexp_replace(s, 'x*', '-') from t where id in (4, 6) order by id;
select regexp_replace(s, '[a-z]+$', '') as k, count(*), min(s) from t where s <> '' and id <> 3 group by k order by k;
